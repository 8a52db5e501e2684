"""Rehearse the whole evacuation on a throwaway workload with real parts.

`evacuation drill` starts an S3 server, a Prefect server and a worker, deploys, starts the sample
workload, triggers the deployment as a person would, and proves the outcome with its own eyes. The flow does that in a
process of its own, and then the dry run of the workload.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import UUID

from prefect import flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.logging import get_run_logger

from blocks.workload import Workload
from flows.evacuate import evacuate
from flows.fields import BlockName
from tasks.custody.errors import Refused
from tasks.custody.evidence.keys import MANIFEST, SUMS, VERDICT
from tasks.custody.incident.deployment_names import full_name
from tasks.custody.incident.ending import NOT_REHEARSED, OF_WORD, REHEARSED
from tasks.custody.incident.exit_codes import EXIT_CODES, INTERRUPTED
from tasks.custody.incident.timeline import FIGURES
from tasks.custody.incident.verdict import Word
from tasks.drill.apart import run_drill
from tasks.drill.deployment import NAME, POOL, client_of, deploy, prefect, save_blocks
from tasks.drill.sample_workload import REFUSED, SampleWorkload, declare
from tasks.drill.screen import follow, heading, last_line, say
from tasks.drill.show_retention import ALLOWED, allowed_signers, lock_bucket, proven_by_ssh_keygen, refuses_deletion
from tasks.drill.store_and_worker import SeaweedFS, Worker
from tasks.host.host import LinuxHost
from tasks.incident.dry_runs import last_dry_run
from tasks.incident.last_word import WORKS
from tasks.incident.layout import CORDON, OPEN, closings
from tasks.prefect_side.own_server import PrefectServer
from tasks.prefect_side.saved_blocks import load_block
from tasks.runtime.flow_run import make_state
from tasks.system.files.shared_files import CHECKOUT
from tasks.system.managed_process import outlive

S = TypeVar("S")

_RUN_SECONDS: Final = 300.0


@flow(name="drill", flow_run_name="drill {workload}", persist_result=False)
def drill(workload: BlockName, store: BlockName, sample: bool = True) -> State[Any]:  # noqa: FBT001, FBT002  a switch
    """Rehearse on this host: evacuate a throwaway workload from end to end, then show what would be done to this one.

    使い捨てのワークロードを実際に撤収し、続けて対象ワークロードのドライランを行います。

    Args:
        workload: Name of the Workload block whose dry run follows. 対象の Workload ブロック名。
        store: Name of the Evidence Store block. 保全先の Evidence Store ブロック名。
        sample: Evacuate the sample workload first, on servers of its own. 使い捨てのワークロードの撤収も行う。
    """
    proven, last = run_drill(get_run_logger().info) if sample else (True, "")
    planned = evacuate(workload, store, reason="drill", dry_run=True, return_state=True)
    message = "; ".join(filter(None, [last, planned.message]))
    would = last_dry_run(load_block(Workload, workload)) if planned.is_completed() else None
    return make_state(REHEARSED if proven and would and would[1] in WORKS else NOT_REHEARSED, message)


class NotProven(Exception):
    """A check of the drill failed. `word` is the verdict that the drill ends with."""

    def __init__(self, word: str, reason: str) -> None:
        """Keep the word."""
        super().__init__(reason)
        self.word = word


@dataclass(frozen=True)
class Stage:
    """The parts of one drill."""

    folder: Path
    store: SeaweedFS
    server: PrefectServer
    worker: Worker
    sample: SampleWorkload

    @property
    def evidence(self) -> Path:
        """Folder of the incidents."""
        return self.folder / "evidence"


@contextmanager
def stage(folder: Path, *, keep: bool) -> Iterator[Stage]:
    """Start all parts, and end them in any case. With `keep`, store and server outlive the drill."""
    with ExitStack() as parts:
        say(f"drill in {folder}")
        store = parts.enter_context(SeaweedFS(folder / "store"))
        say(f"  store    {store.endpoint}, bucket {store.bucket}")
        server = parts.enter_context(PrefectServer(folder / "prefect"))
        say(f"  prefect  {server.ui}")
        sample = parts.enter_context(SampleWorkload(folder / "workload"))
        parts.callback(LinuxHost().release, folder / "evidence" / CORDON)
        sample.build()
        say(f"  workload {sample.root}")
        lock_bucket(store)
        (folder / ALLOWED).write_text(f"{allowed_signers(save_blocks(server, store, sample.block()))}\n")
        deploy(server)
        with Worker(folder / "worker", server, POOL, declare(folder / "hosts.d", sample.block())) as worker:
            yield Stage(folder, store, server, worker, sample)
        if keep:
            leave_up(store, server)
            sample.__exit__()
            parts.pop_all()


def trigger(on: Stage, **parameters: Any) -> FlowRun:
    """Run `prefect deployment run evacuate/evacuate-sample` and print its steps; return the finished flow run."""
    words = [word for name, value in parameters.items() for word in ("--param", f"{name}={json.dumps(value)}")]
    deployment = full_name("evacuate", NAME)
    say(f"$ prefect deployment run {deployment} {' '.join(words)}")
    output = prefect(on.server, "deployment", "run", deployment, *words)
    found = re.search(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", output)
    if not found:
        raise RuntimeError(f"no flow run in what prefect printed:\n{output}")
    say(heading())
    with client_of(on.server) as client:
        run = follow(client, UUID(found[0]), _RUN_SECONDS, say)
    say(f"  {run.state_name}: {run.state.message if run.state else ''}")
    return run


def require(seen: object, word: str, reason: str) -> None:
    """Raise NotProven with this verdict and reason unless the check has passed."""
    if not seen:
        raise NotProven(word, reason)
    say(f"  proven: {reason}")


def prove_contained(on: Stage, home: Path) -> None:
    """Prove that no process of the workload is left, the lock refuses a launcher, and the evidence matches its sums."""
    remaining = [f"{process.pid} {' '.join(process.cmdline())[:60]}" for process in on.sample.living()]
    require(not remaining, Word.NOT_CONTAINED, f"no process works in the workload's root{': '.join(['', *remaining])}")
    code = on.sample.launch_training()
    require(code == REFUSED, Word.NOT_CONTAINED, f"a new training is refused by the lock (flock exit {code})")
    sums = ["sha256sum", "--check", "--quiet", "--strict", SUMS]
    done = subprocess.run(sums, cwd=home / "evidence", capture_output=True, text=True, check=False)
    require(done.returncode == 0, Word.UNVERIFIED, f"sha256sum -c {SUMS} passes {done.stdout}{done.stderr}".strip())


def prove_kept(on: Stage, home: Path) -> None:
    """Prove the manifest's signature by ssh-keygen, and that the store refuses its own user to delete the manifest."""
    output = proven_by_ssh_keygen(home / "evidence", on.folder / ALLOWED)
    if output is not None:
        require(output, Word.UNVERIFIED, f"ssh-keygen -Y verify: {output}")
    key = f"drill/incidents/{home.name}/evidence/{MANIFEST}"
    require(refuses_deletion(on.store, key), Word.UNVERIFIED, "the store refuses to delete the manifest")


def prove_recovered(on: Stage) -> None:
    """Prove that the API predicts again, and that the lock admits training."""
    answer = on.sample.predict()
    require("pred_proba" in answer, Word.UNVERIFIED, f"the API predicts again: {answer}")
    code = on.sample.launch_training()
    require(code == 0, Word.UNVERIFIED, f"training starts again (flock exit {code})")


def rehearse(on: Stage) -> tuple[str, dict[str, Any]]:
    """Evacuate in mid-training, prove that, recover the API, and prove that too."""
    on.sample.start()
    say(f"  at work: {len(on.sample.living())} processes, {len(on.sample.computing())} of them training workers")
    trigger(on, reason="drill: evacuate in mid-training")
    incident = json.loads((on.evidence / OPEN).read_bytes())["id"]
    home = on.evidence / incident
    facts = facts_of(home, on)
    word = json.loads(closings(home)[-1].read_bytes())["verdict"]
    if word == Word.VERIFIED:
        prove_contained(on, home)
        prove_kept(on, home)
        again = trigger(on, incident_id=incident, recover=True)
        require(again.state_name == "Verified", Word.UNVERIFIED, f"the same incident carried on: {again.state_name}")
        prove_recovered(on)
    return word, facts


def facts_of(home: Path, on: Stage) -> dict[str, Any]:
    """Return the figures of the last line, those in seconds as the record has them."""
    manifest = home / "evidence" / MANIFEST
    items = json.loads(manifest.read_bytes())["items"] if manifest.exists() else []
    record = json.loads(closings(home)[-1].with_name(VERDICT).read_bytes())
    return {
        "incident": home.name,
        **{name: record[name] for name in FIGURES if name in record},
        "files": len(items),
        "bytes": sum(item["bytes"] for item in items),
        "evidence": home / "evidence",
        "store": f"s3://{on.store.bucket}/drill/incidents/{home.name}",
    }


def leave_up(store: SeaweedFS, server: PrefectServer) -> None:
    """Pass the lifelines of store and server to a process that outlives this one; print how to look and to end it."""
    holder = outlive([store, server])
    say("")
    say(f"Left up: UI {server.ui}   API {server.api}   S3 {store.endpoint}")
    say("Look into the bucket:")
    say(f"  export AWS_ACCESS_KEY_ID={store.access_key} AWS_SECRET_ACCESS_KEY={store.secret_key}")
    say("  export AWS_DEFAULT_REGION=us-east-1")
    aws = shlex.quote(str(Path(sys.executable).with_name("aws")))
    say(f"  {aws} --endpoint-url {store.endpoint} s3 ls --recursive s3://{store.bucket}/drill/")
    say(f"End both with: kill {holder}")


def folder() -> Path:
    """Return the folder for the evidence of this installation's drills."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")
    return CHECKOUT / "build/drill" if CHECKOUT else state / "evacuation/drill"


def require_programs() -> None:
    """Raise Refused if a program that a drill needs is not installed."""
    beside = Path(sys.executable).parent
    lacking = [name for name in ("weed", "uv") if not (beside / name).exists()]
    lacking += [name for name in ("make",) if not shutil.which(name)]
    if lacking:
        raise Refused(
            f"weed and uv in {beside}, and make: the extra `drill`",
            f"no {', no '.join(lacking)}",
            "Install it with its extra: pipx install 'evacuation[drill]', or from a wheel: "
            "pipx install 'evacuation[drill] @ file:///PATH/TO.whl'.",
        )


def act_out(
    place: Path,
    parts: AbstractContextManager[S],
    rehearse: Callable[[S], tuple[str, dict[str, Any]]],
    codes: Mapping[str, int],
) -> int:
    """Make a drill's folder, rehearse on its parts, and print its last line; return the exit code of its word."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    place.mkdir(parents=True)
    try:
        with parts as on:
            word, facts = rehearse(on)
    except NotProven as reason:
        word, facts = reason.word, {"not_proven": str(reason)}
    except KeyboardInterrupt:
        say("interrupted: everything that the drill started has ended")
        return INTERRUPTED
    say(last_line(word, facts))
    return codes[word]


def drill_by_hand(*, keep: bool) -> int:
    """Run the drill; return the exit code of its verdict. Raises Refused."""
    require_programs()
    place = folder() / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}"
    codes: dict[str, int] = {word: EXIT_CODES[ending.name] for word, ending in OF_WORD.items()}
    return act_out(place, stage(place, keep=keep), rehearse, codes)
