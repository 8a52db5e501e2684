"""Define the commands of `evacuation`: names, options and help. Their work is done in tasks/ and other flows/."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter

from tasks.cli.output import command, refuse, show_version
from tasks.custody.incident.description import FILE, HERE, URL, place, workload_folder
from tasks.custody.incident.incident import known_id
from tasks.custody.visible import say
from tasks.system.files.file_here import resolve_argument
from tasks.system.installation import KEY, NAME, version

WorkloadFile = Annotated[
    str,
    Parameter(
        name="WORKLOAD",
        help="TOML file with a [workload.NAME]; FILE:NAME where it has several. Else a folder with src/train.py or "
        "api/app.py, by the runbook's defaults, with its store in $S3_BUCKET. If left out: evacuation.toml of the "
        "current folder, if no other account may change it, else that folder.",
    ),
]
StoreName = Annotated[
    str,
    Parameter(
        name="STORE",
        help="TOML file with a [store.NAME]; FILE:NAME where it has several; s3://BUCKET/PREFIX; a folder, with a / in "
        "its path; or a saved block. "
        "$S3_BUCKET if left out; of an audit by INCIDENT alone first evacuation.toml of the current folder.",
    ),
]
StoreFile = Annotated[str, Parameter(help="TOML file with the [store.NAME], if that is another file.")]
StoreTable = Annotated[str, Parameter(name="STORE", help="TOML file with a [store.NAME]; FILE:NAME if several.")]
What = Annotated[str, Parameter(name="WHAT", help="latest, an incident IR-…, or the stamp of a snapshot.")]
Policy = Literal["graceful", "kill"]
Suspects = Literal["name", "include"] | None
Unknowns = Literal["name", "end"] | None
StartAs = Annotated[Literal["process", "container"] | None, Parameter(name="--as")]
Incident = Annotated[str, Parameter(name="INCIDENT", help="IR-…, or FL-… of a fleet; without it a list.")]
Folder = Annotated[
    Path, Parameter(name="INTO", help="Folder, made if it is new; the current one, a workload's, if left out.")
]
Json = Annotated[bool, Parameter(name="--json", help="Print one JSON object, with a `schema` version.")]
Act = Annotated[
    Literal["run", "retry", "status", "cancel", "thaw"],
    Parameter(name="ACT", help="run, retry (what failed or is silent), status, cancel (what has not begun), thaw."),
]
Turn = Annotated[int, Parameter(name="TURN", help="Turn of latest/ to go back before; the last one if 0.")]

_HERE = Path(HERE)

app = App(
    name=NAME,
    help="Evacuate a machine-learning workload in an emergency: freeze, look, stop, seal, offload, verify, recover.",
    help_epilogue="Exit code 0: all that was asked for is proven. All codes: docs/reference.md.",
    help_format="plaintext",
    version=version,
    default_parameter=Parameter(negative="", show_default=False),
    exit_on_error=False,
    print_error=False,
    suppress_keyboard_interrupt=False,
    result_action="return_value",
)
app.register_install_completion_command(add_to_startup=False)


def invoke(words: Sequence[str]) -> int:
    """Parse a command, and run it where nobody else can have put a file; return its exit code."""
    try:
        called, bound, _ = app.parse_args(list(words))
    except CycloptsError as error:
        verb = next(iter(words), "") if {*words[:1]} & {*app} else ""
        see = f"See: {command(verb, '--help') if verb else command('--help')}"
        return refuse(words, f"{error} Nothing was touched. {see}", see)
    bound.apply_defaults()
    if "workload" in bound.arguments:
        from flows.cli import to_freeze

        bound.arguments["workload"], note = resolve_argument(bound.arguments["workload"])
        if note and to_freeze(words) is None:  # else it was said before the freeze
            say(note, error=True)
    if known_id(bound.arguments.get("store")) and not bound.arguments.get("incident", NAME):
        here, note = resolve_argument(HERE)
        bound.arguments |= {"store": "" if here == HERE else here, "incident": bound.arguments["store"]}
        if note:
            say(note, error=True)
    bound.arguments.update({name: _from_here(name, value) for name, value in bound.arguments.items()})
    os.chdir("/")  # Prefect would take settings, and code by way of them, from files in the folder where one stands
    done: object = called(*bound.args, **bound.kwargs)
    return done if isinstance(done, int) else 0


def _from_here(name: str, value: Any) -> Any:
    """Return the whole path of a file or folder that an argument names; any other value as it is."""
    if isinstance(value, Path):
        return workload_folder(value) if value is _HERE else value.absolute()
    names_file = name == "workload" or (name in {"store", "file"} and place(str(value))[0].endswith(FILE))
    names_file = names_file or (name == "store" and "/" in str(value) and not str(value).startswith(URL))
    return os.path.abspath(value) if names_file else value  # noqa: PTH100  FILE:NAME is no path


def _examples(*lines: str) -> str:
    return "\n".join(["Examples:", *(f"  {NAME} {line}" for line in lines)])


@app.command(help_epilogue=_examples("worker", "worker --pool gpus", "worker --work-queue fleet --work-queue people"))
def worker(*arguments: Annotated[str, Parameter(name="OPTIONS", allow_leading_hyphen=True)]) -> None:
    """Start the worker of this host, with the options of `prefect worker start`. Needs a Prefect server.

    Without --pool it is the pool evacuation, and without --work-queue too the queues of this host.
    """
    from flows.worker import main

    main(arguments)


@app.command(
    synonym="evacuate",
    help_epilogue=_examples(
        "run evacuation.toml --reason 'disk alarm'",
        "run w.toml --incident IR-20261124T162644Z",
        "run w.toml --incident IR-20261124T162644Z --new",
    ),
)
def run(  # noqa: PLR0913  the options of an evacuation
    workload: WorkloadFile = HERE,
    /,
    *,
    store: StoreFile = "",
    reason: str = "",
    incident: str | None = None,
    new: bool = False,
    policy: Policy = "graceful",
    suspects: Suspects = None,
    unknown: Unknowns = None,
    recover: bool = False,
    model: str = "",
    dry_run: bool = False,
    json: Json = False,
) -> int:
    """Evacuate now, on this host, without a Prefect server. Its processes are frozen before all else, containers after.

    Args:
        reason: Why, in a sentence; it goes on record.
        incident: IR-… of an incident to carry on.
        new: The incident is a new one, whose id was issued before, as by a ticket.
        policy: graceful, the default, lets processes end by themselves first; kill, for a compromised host, does not.
        suspects: name only names processes that a fact ties to the workload; include ends them too.
        unknown: name only names processes in the root that nobody knows; end ends them too.
        recover: Bring the API back after VERIFIED or PARTIAL.
        model: With --recover: path or sha256 of the model to bring back, or SNAPSHOT:path; else the one served before.
        dry_run: Show what would be done, as `plan` does.
    """
    from flows.command.by_hand import run_by_hand

    parameters = {"reason": reason, "incident_id": incident, "policy": policy, "recover": recover, "dry_run": dry_run}
    verb = "plan" if dry_run else "run"
    more = {"suspects": suspects, "unknown": unknown, "model": model, "new_incident": new}
    return run_by_hand(verb, workload, store, {**parameters, **more}, as_json=json)


@app.command(
    synonym=("rehearse", "dry-run"),
    help_epilogue=_examples("plan evacuation.toml", "plan evacuation.toml --policy kill --json"),
)
def plan(  # noqa: PLR0913  its options
    workload: WorkloadFile = HERE,
    /,
    *,
    store: StoreFile = "",
    policy: Policy = "graceful",
    suspects: Suspects = None,
    unknown: Unknowns = None,
    json: Json = False,
) -> int:
    """Show what `run` would do, and how it would end. Nothing stops, no evidence leaves this host.

    Args:
        policy: The policy to plan for.
        suspects: include plans to end suspects too.
        unknown: end plans to end processes that nobody knows, too.
    """
    from flows.command.by_hand import run_by_hand

    parameters = {"policy": policy, "suspects": suspects, "unknown": unknown, "dry_run": True}
    return run_by_hand("plan", workload, store, parameters, as_json=json)


@app.command(
    synonym="restart",
    help_epilogue=_examples("recover evacuation.toml", "recover evacuation.toml --despite 'the bucket is gone'"),
)
def recover(  # noqa: PLR0913  its options
    workload: WorkloadFile = HERE,
    /,
    *,
    store: StoreFile = "",
    incident: str | None = None,
    despite: str = "",
    model: str = "",
    start_as: StartAs = None,
    json: Json = False,
) -> int:
    """Bring the API back after an evacuation, and prove the model that it serves. Training is let in again.

    Args:
        incident: IR-… of the incident; the last one if left out.
        despite: Why to go on although the incident is UNVERIFIED or UNANSWERED; it goes on record.
        model: Path or sha256 of the model to bring back, or SNAPSHOT:path from the store; else the one served before.
        start_as: process starts api_command, container a new container of api_image; without it as it ran.
    """
    from flows.command.by_hand import run_by_hand

    parameters = {"incident_id": incident, "despite": despite, "model": model, "start_as": start_as}
    return run_by_hand("recover", workload, store, parameters, as_json=json)


@app.command(
    help_epilogue=_examples(
        "answer evacuation.toml IR-20261124T162644Z 4711 bystander --reason 'the tensorboard of ana'",
        "answer evacuation.toml:portfolio IR-20261124T162644Z 4711 end",
    )
)
def answer(  # noqa: PLR0913  its options
    workload: WorkloadFile,
    incident: Annotated[str, Parameter(name="INCIDENT", help="IR-… of the open incident.")],
    pid: Annotated[int, Parameter(name="PID", help="Process that its message names.")],
    decision: Annotated[
        Literal["bystander", "end"],
        Parameter(name="DECISION", help="bystander leaves it alone in this incident; end ends it with the workload."),
    ],
    /,
    *,
    store: StoreFile = "",
    reason: str = "",
    policy: Policy = "graceful",
    json: Json = False,
) -> int:
    """Say what a process is that an evacuation could not place. The check runs again, the incident is carried on.

    Args:
        reason: Why, in a sentence; it goes on record with who answers.
        policy: How what is to be ended is stopped, as of an evacuation.
    """
    from flows.command.by_hand import run_by_hand
    from tasks.runtime.actor import person

    fields = {"pid": pid, "decision": decision, "by": person(), "reason": reason, "policy": policy}
    return run_by_hand("answer", workload, store, {"incident_id": incident, **fields}, as_json=json)


@app.command(
    help_epilogue=_examples(
        "postmortem evacuation.toml IR-20261124T162644Z",
        "postmortem evacuation.toml IR-20261124T162644Z --title 'Disk full' --cause 'no quota' --contact 'Ana, 1234'",
    )
)
def postmortem(  # noqa: PLR0913  its options
    workload: WorkloadFile,
    incident: Annotated[str, Parameter(name="INCIDENT", help="IR-… of the incident; the last one if left out.")] = "",
    /,
    *,
    store: StoreFile = "",
    title: str | None = None,
    effect: str | None = None,
    cause: str | None = None,
    measures: str | None = None,
    prevention: str | None = None,
    contact: str | None = None,
    json: Json = False,
) -> int:
    """Write what only people know into the postmortem; signed, chained and stored. Without a text: show what is there.

    Args:
        title: What happened, in a line.
        effect: What it meant for users.
        cause: What caused it.
        measures: What is changed for good.
        prevention: What keeps it from happening again.
        contact: Whom to ask: name, title, phone.
    """
    texts = {"title": title, "effect": effect, "cause": cause, "measures": measures, "prevention": prevention}
    contents = {name: text for name, text in {**texts, "contact": contact}.items() if text is not None}
    if not contents:
        from tasks.cli.postmortem import show_written

        return show_written(workload, incident, as_json=json)
    from flows.command.by_hand import run_by_hand
    from tasks.runtime.actor import person

    parameters = {"incident_id": incident or None, "by": person(), **contents}
    return run_by_hand("postmortem", workload, store, parameters, as_json=json)


@app.command(help_epilogue=_examples("status evacuation.toml", "status evacuation.toml:portfolio --json"))
def status(workload: WorkloadFile = HERE, /, *, json: Json = False) -> int:
    """Tell how a workload stands, and what to do next. Reads files and /proc alone."""
    from tasks.cli.workloads import show_status

    return show_status(workload, as_json=json)


@app.command(
    synonym=("check", "ready"),
    help_epilogue=_examples("doctor evacuation.toml", "doctor w.toml --store store.toml --signers signers"),
)
def doctor(
    workload: WorkloadFile = HERE,
    /,
    *,
    store: StoreFile = "",
    signers: Path | None = None,
    message: bool = False,
    json: Json = False,
) -> int:
    """Tell whether an evacuation would work if it began now: host, workload, store, Prefect. Touches nothing.

    Args:
        signers: allowed_signers file of the auditor, which this host's signature has to fit.
        message: Send people a test message, and say who has taken it.
    """
    from tasks.cli.doctor import doctor_by_hand

    return doctor_by_hand(workload, store, signers, message=message, as_json=json)


@app.command(synonym=("unfreeze", "cancel"), help_epilogue=_examples("thaw evacuation.toml"))
def thaw(workload: WorkloadFile = HERE, /, *, reason: str = "") -> int:
    """Call an evacuation off that has frozen and not yet stopped: everything goes on as it was.

    Args:
        reason: Why, in a sentence; it goes on record.
    """
    from tasks.cli.thaw import thaw_by_hand

    return thaw_by_hand(workload, reason)


@app.command(help_epilogue=_examples("uncordon evacuation.toml"))
def uncordon(workload: WorkloadFile = HERE, /) -> int:
    """Let training in again without a recovery: end the guard, and the newcomers that it caught."""
    from tasks.cli.workloads import uncordon_by_hand

    return uncordon_by_hand(workload)


@app.command(
    synonym=("verify", "prove"),
    help_epilogue=_examples("audit store.toml", "audit store.toml IR-20261125T101836Z --signers signers --deep"),
)
def audit(  # noqa: PLR0913  its options
    store: StoreName = "",
    incident: Incident = "",
    /,
    *,
    signers: Path | None = None,
    tsa_roots: Path | None = None,
    deep: bool = False,
    json: Json = False,
) -> int:
    """Prove a past incident from its store alone, or list the incidents and fleets that a store holds.

    Args:
        signers: allowed_signers file of ssh-keygen: who may sign.
        tsa_roots: Root certificates of time-stamp authorities, in PEM: who may vouch for the time.
        deep: Read every byte back and hash it, instead of asking the store for its digests.
    """
    from tasks.cli.audit import audit_by_hand

    return audit_by_hand(store, incident, signers, tsa_roots, deep=deep, as_json=json)


@app.command(help_epilogue=_examples("rotate /etc/evacuation/evacuation.toml /etc/evacuation/signing-2.key"))
def rotate(
    store: StoreTable, key: Annotated[Path, Parameter(name="KEY", help="The next key; KEY.pub lies beside it.")], /
) -> int:
    """Close the signing key of a store's table: under its signature, name the next key of this host, for audits."""
    from tasks.cli.rotate import rotate_by_hand

    return rotate_by_hand(store, key)


@app.command(
    synonym="restore", help_epilogue=_examples("pull store.toml /srv/p", "pull store.toml /srv/p IR-20261125T101836Z")
)
def pull(  # noqa: PLR0913  its options
    store: StoreName = "",
    into: Folder = _HERE,
    what: What = "latest",
    /,
    *,
    overwrite: bool = False,
    unpromised: Path | None = None,
    bag: bool = False,
    organization: str = "",
    signers: Path | None = None,
    tsa_roots: Path | None = None,
    json: Json = False,
) -> int:
    """Bring latest/, a snapshot or an incident into a folder, each file proven while it is written.

    Args:
        overwrite: Replace files that are newer here, too.
        unpromised: An empty folder for what no manifest, closing or turn names; it is left out otherwise.
        bag: Make a BagIt bag (RFC 8493) of the incident, INTO/IR-…, after an audit; of what is promised alone.
        organization: With --bag: who hands it over.
        signers: With --bag: allowed_signers file for the audit, whose word bag-info.txt tells.
        tsa_roots: With --bag: root certificates of time-stamp authorities for the audit.
    """
    from tasks.cli.latest import pull_by_hand

    more: dict[str, Any] = {"overwrite": overwrite, "unpromised": unpromised, "as_json": json}
    return pull_by_hand(store, into, what, bagged=bag, bagging=(organization, signers, tsa_roots), **more)


@app.command(help_epilogue=_examples("rollback store.toml --dry-run", "rollback store.toml 7"))
def rollback(  # noqa: PLR0913  its options
    store: StoreName,
    turn: Turn = 0,
    /,
    *,
    dry_run: bool = False,
    newest_only: bool = False,
    take_over: bool = False,
    json: Json = False,
) -> int:
    """Make latest/ what it was before its last turn, or before the turn that is named.

    Args:
        dry_run: Show what would be done.
        newest_only: Change no file; let incidents promote again that were kept out of latest/ by one from the future.
        take_over: Go on although a turn is under way, because its run is known to be dead.
    """
    from tasks.cli.latest import lower_by_hand, rollback_by_hand

    act = lower_by_hand if newest_only else rollback_by_hand
    return act(store, turn, dry_run=dry_run, take_over=take_over, as_json=json)


@app.command(
    help_epilogue=_examples(
        "fleet run lab --reason 'credentials leaked'", "fleet retry lab", "fleet status lab", "fleet thaw lab"
    )
)
def fleet(  # noqa: PLR0913  its options
    act: Act,
    name: Annotated[str, Parameter(name="NAME", help="Fleet that is deployed.")],
    /,
    *,
    reason: str = "",
    policy: Policy = "graceful",
    recover: bool = False,
    incident: str | None = None,
    json: Json = False,
) -> int:
    """Evacuate all hosts of a fleet by one trigger, and show one table; order again, cancel or thaw. Needs Prefect.

    Args:
        reason: Why, in a sentence; it goes on record.
        policy: graceful, the default, or kill, for compromised hosts.
        recover: Bring the hosts' APIs back afterwards.
        incident: FL-… of the fleet's incident; the open or last one if left out.
    """
    from tasks.cli.fleet import fleet_by_hand

    parameters = {"reason": reason, "policy": policy, "recover": recover}
    return fleet_by_hand(act, name, incident, parameters, as_json=json)


@app.command(help_epilogue=_examples("deploy evacuation.toml", "deploy --name portfolio --notify slack-webhook/ops"))
def deploy(  # noqa: PLR0913  its options
    file: Annotated[str, Parameter(name="FILE", help="TOML file: its blocks are saved, its workloads deployed.")] = "",
    /,
    *,
    name: str = "",
    store: str = "",
    pool: str = "evacuation",
    engine: str = "",
    notify: tuple[str, ...] = (),
) -> int:
    """Register with the Prefect server what a workload needs: blocks, pool, queues, deployments, alarms. Idempotent.

    Args:
        name: Deploy this saved workload, instead of a file.
        store: Name of its saved store, if that is another.
        pool: Work pool; made if there is none.
        engine: Python of the worker, if it is not this one.
        notify: Saved notification block that tells people, as in slack-webhook/ops. May be given more than once.
    """
    from tasks.deployment.register import deploy_by_hand

    return deploy_by_hand(file, name=name, store=store, pool=pool, engine=engine, notify=notify)


@app.command(
    help_epilogue=_examples(
        "install /etc/evacuation/evacuation.toml", "install evacuation.toml --dry-run", "install w.toml --declare"
    )
)
def install(workload: WorkloadFile, /, *, server: bool = False, declare: bool = False, dry_run: bool = False) -> int:
    """Install worker, guard and nightly doctor as systemd units on the workload's host. Run it again after an upgrade.

    Args:
        server: Install a Prefect server on this host too.
        declare: Only write what root declares of the workload, as where systemd has not booted.
        dry_run: Print the units and commands; change nothing.
    """
    from tasks.cli.install import declare_by_hand, install_by_hand

    if declare:
        return declare_by_hand(workload, dry_run=dry_run)
    return install_by_hand(workload, server=server, dry_run=dry_run)


@app.command(help_epilogue=_examples("init /srv/house", "init --example gunicorn"))
def init(
    root: Annotated[Path, Parameter(name="ROOT", help="The workload's folder; the current one if left out.")] = Path(),
    /,
    *,
    output: Path = Path("evacuation.toml"),
    example: str = "",
) -> int:
    """Write a first evacuation.toml from what lies and runs in a folder now, and say what is missing. Touches nothing.

    Args:
        output: The file, which is not there yet; evacuation.toml in the current folder if left out.
        example: Write this example into a new folder of its name in ROOT instead: gunicorn or scoring.
    """
    from tasks.cli.init import copy_example, init_by_hand

    return copy_example(example, root) if example else init_by_hand(root, output)


@app.command(help_epilogue=_examples("key", "key /srv/evacuation/signing.key"))
def key(
    file: Annotated[Path, Parameter(name="FILE", help="Where to; /etc/evacuation/signing.key if left out.")] = KEY, /
) -> int:
    """Make the key by which this host signs its evidence, and print its line for the auditor. Overwrites nothing."""
    from tasks.cli.key import make_by_hand

    return make_by_hand(file)


@app.command(help_epilogue=_examples("uninstall"))
def uninstall() -> int:
    """Take away what `install` has written. Refused while an incident is open or a cordon stands."""
    from tasks.cli.install import uninstall_by_hand

    return uninstall_by_hand()


@app.command(help_epilogue=_examples("drill", "drill --keep", "drill --fleet"))
def drill(*, keep: bool = False, fleet: bool = False) -> int:
    """Rehearse the whole evacuation on a throwaway workload with real servers. Needs the extra `drill`.

    Args:
        keep: Leave the S3 server, the Prefect server and its UI up.
        fleet: Three hosts on PostgreSQL and Redis, of which two die. Needs the extra `fleet`, too.
    """
    if fleet:
        from flows.fleet_drill import fleet_drill_by_hand

        return fleet_drill_by_hand()
    from flows.drill import drill_by_hand

    return drill_by_hand(keep=keep)


@app.command(name="version", help_epilogue=_examples("version --json"))
def tell_version(*, json: Json = False) -> int:
    """Print the version of this program, of Python and of Prefect."""
    return show_version(as_json=json)
