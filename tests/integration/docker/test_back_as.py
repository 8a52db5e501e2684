"""The API comes back as a process or as a new container, whatever it ran as, on a real engine."""

import os
import pickle
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from blocks.directory import DirectoryStore
from blocks.workload import Workload
from tasks.containment.containers.pause import WorkloadContainers
from tasks.containment.cordon import cordon
from tasks.containment.freeze import freeze
from tasks.containment.stop import stop
from tasks.custody.containment.receipt import Recovery
from tasks.custody.evidence.acquisition import Seal
from tasks.custody.incident.verdict import Verdict, Word
from tasks.custody.store.manifest import digest_bytes
from tasks.evidence.collect import collect
from tasks.evidence.seal import check_seal
from tasks.models.inspect import judge_models
from tasks.recovery.api_client import NotRecovered
from tasks.recovery.recover import StartAs, as_it_ran, recover
from tasks.recovery.rehearsal import starts_of
from tasks.runtime.context import RunContext
from tasks.storage.offload import claim_store, offload
from tests.support.containers import API_COMMAND, FILES, IMAGE, Containers, build
from tests.support.run_context import INCIDENT, case_of, made
from tests.support.sealed_runs import seal_volumes
from tests.support.workloads import SmallWorkload, wait_until

pytestmark = pytest.mark.whole

VERIFIED = Verdict(Word.VERIFIED, (), (), (), "")
MODEL = "models/model_builtin.joblib"
SECRET = "hunter2-of-the-api"
SOMEBODY = 4242


@dataclass
class Case:
    """A sealed incident whose workload is contained."""

    context: RunContext
    seals: Sequence[Seal]
    containers: Containers

    def recover(self, start_as: StartAs | None = None, model: str = "", **block: Any) -> Recovery:
        """Recover by the block as these fields change it."""
        self.context.workload = self.context.workload.model_copy(update=block)
        found: Recovery = made(recover.fn(self.context, self.seals, self.seals[0], VERIFIED, "", model, start_as))
        return found

    def inspect(self, name: str) -> dict[str, Any]:
        """What the engine knows of a container."""
        found: dict[str, Any] = self.containers.client.inspect_container(name)
        return found

    @property
    def running(self) -> list[str]:
        """Names of all containers of the image that run."""
        found = self.containers.client.containers(filters={"ancestor": IMAGE})
        return [each["Names"][0].removeprefix("/") for each in found]


@contextmanager
def evacuated(block: Workload, containers: Containers) -> Iterator[Case]:
    """Contain the workload, seal its evidence, and send it to a store in a folder."""
    (folder := block.root.parent / "store").mkdir(exist_ok=True)
    with case_of(block, DirectoryStore(folder)) as context:
        cordon.fn(context)
        freeze.fn(context)
        evidence = [made(collect.fn(context, name)) for name in ("tree", "container_files")]
        stop.fn(context)
        evidence.append(made(collect.fn(context, "models")))
        judge_models.fn(context, evidence)
        seals = seal_volumes(context, evidence)
        claim_store.fn(context)
        offload.fn(context, seals, made(check_seal.fn(context, seals)))
        try:
            yield Case(context, seals, containers)
        finally:
            for each in containers.client.containers(all=True, filters={"name": INCIDENT}):
                containers.client.remove_container(each["Id"], force=True)


def block_of(there: Containers, small: SmallWorkload, **fields: Any) -> Workload:
    """A block that can start the API in both ways, at one port."""
    small.port = there.port
    both = {
        "api_image": IMAGE,
        "api_ports": [f"{there.port}:8000"],
        "api_mounts": ["./models:/app/models", "./logs:/app/logs"],
        "containers": [there.asked, f"image={IMAGE}"],
    }
    return there.block(small, **(both | fields))


def mine(small: SmallWorkload) -> None:
    """The root is an account's other than root's, which starts the API itself."""
    subprocess.run(["chown", "-R", f"{SOMEBODY}:{SOMEBODY}", str(small.root)], check=True)


def test_an_api_that_ran_as_a_process_comes_back_as_a_new_container_with_ports_mounts_and_environment(
    containers: Containers, small: SmallWorkload
) -> None:
    mine(small)
    small.start(small.api_command)
    wait_until(small.healthy, what="the API")
    environment = {"MODEL_PATH": "/app/models/model_builtin.joblib", "API_TOKEN": SECRET}
    with evacuated(block_of(containers, small, user="", api_environment=environment), containers) as case:
        assert starts_of(case.context, as_it_ran(case.context))["the start as a new container"][0]
        recovery = case.recover("container")
        name = f"{INCIDENT}-api-1"
        assert (recovery.container, recovery.unproven) == (name, ())
        assert recovery.model.endswith(MODEL)
        assert recovery.sha256 == digest_bytes((small.root / MODEL).read_bytes())
        about, host = case.inspect(name), case.inspect(name)["HostConfig"]
        assert {f"API_TOKEN={SECRET}", "MODEL_PATH=/app/models/model_builtin.joblib"} <= {*about["Config"]["Env"]}
        assert host["PortBindings"] == {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(containers.port)}]}
        assert {each["Source"] for each in about["Mounts"]} == {f"{small.root}/models", f"{small.root}/logs"}
        owner = small.root.stat().st_uid
        assert about["Config"]["User"] == (f"{owner}:65534" if owner else "")
        assert (small.root / "logs/api-20260101.log").stat().st_uid == owner
        assert host["SecurityOpt"] == ["no-new-privileges"]
        assert [each["object"] for each in case.context.log.entries() if each["action"] == "restarted"] == [about["Id"]]
        assert SECRET not in case.context.directory.path.joinpath("custody.jsonl").read_text()
        assert WorkloadContainers(case.context).tell_living() == ()
        again = case.recover()
        assert (again.container, again.unproven, case.running) == (name, (), [name])
        with pytest.raises(NotRecovered, match=f"{name} of an earlier recovery: stop it"):
            case.recover("process")
        assert case.running == [name]
        case.context.state.end_recovery()  # as an evacuation begins: what was recovered is the workload's
        assert name in WorkloadContainers(case.context).tell_living()[0]


def test_an_api_that_ran_in_a_container_comes_back_as_a_process_and_the_container_stays_stopped(
    containers: Containers, small: SmallWorkload
) -> None:
    id_ = containers.run(API_COMMAND, ports=True, restart_policy={"Name": "always"})
    wait_until(lambda: containers.answers("/health"), what="the API")
    with evacuated(block_of(containers, small), containers) as case:
        recovery = case.recover("process")
        assert (recovery.container, recovery.unproven) == ("", ())
        assert recovery.sha256 == digest_bytes(FILES[MODEL])
        assert containers.state(id_) == "exited"
        assert case.inspect(id_)["HostConfig"]["RestartPolicy"]["Name"] == "no"
        assert small.living()
        assert case.recover().process == recovery.process


def test_what_the_entry_of_a_container_starts_beside_the_api_is_foretold_and_named(
    containers: Containers, small: SmallWorkload
) -> None:
    """Its training ran again, though a recovery says that it starts none."""
    own = f"sleep 613.5 & exec {' '.join(API_COMMAND)}"
    containers.run(["sh", "-c", own], ports=True)
    wait_until(lambda: containers.answers("/health"), what="the API")
    with evacuated(block_of(containers, small, api_image="", training_pattern=r"sleep 613"), containers) as case:
        recovery = case.recover()
        (brought,) = recovery.brought
        assert brought.endswith(": sleep 613.5")
        good, why = starts_of(case.context, as_it_ran(case.context))["the start as it ran"]
        assert (good, brought in why) == (True, True)


@pytest.mark.sample(1)
@pytest.mark.parametrize("variable", [{"MODEL_PATH": "/data/in/bird v2.joblib"}, {}])
def test_a_model_of_the_root_that_the_container_has_under_another_path_is_known_and_proven(
    containers: Containers, small: SmallWorkload, variable: dict[str, str]
) -> None:
    """No model was found at a mount that has another path than in the root, and none was said to be sound."""
    (small.root / MODEL).rename(small.root / "models/bird v2.joblib")
    (small.root / "models/other.joblib").write_bytes(pickle.dumps("other"))
    own = f'export MODEL_PATH="$(echo /data/in/bird*)"; exec {" ".join(API_COMMAND)}'  # as an entry script
    command = API_COMMAND if variable else ["sh", "-c", own]
    binds = [f"{small.root}/models:/data/in:ro"]
    containers.run(command, ports=True, binds=binds, environment=variable)
    wait_until(lambda: (containers.answers("/health") or {}).get("model_exists"), what="the API with its model")
    block = block_of(containers, small, api_image="", models=["models/*.joblib"], reload_path="")
    with evacuated(block, containers) as case:
        recovery = case.recover()
        assert recovery.model == "models/bird v2.joblib"
        assert recovery.before == "models/bird v2.joblib (named by its environment)"
        assert recovery.model_to_name == ""
        assert not variable or recovery.unproven == ()
        named = case.recover(model="models/bird v2.joblib")
        assert (named.model, named.unproven) == (recovery.model, ())
        assert case.recover(model="/data/in/bird v2.joblib").unproven == ()
        if variable:
            with pytest.raises(NotRecovered, match=r"to name models/other\.joblib; got models/bird v2\.joblib"):
                case.recover(model="models/other.joblib")
            assert containers.answers("/health")["model"] == "bird v2.joblib"


def test_a_model_that_lies_in_the_container_alone_is_named_and_comes_from_the_store_if_asked(
    containers: Containers, small: SmallWorkload
) -> None:
    (small.root / MODEL).unlink()
    containers.run(API_COMMAND, ports=True, environment={"MODEL_PATH": f"/app/{MODEL}"})
    wait_until(lambda: containers.answers("/health"), what="the API")
    with evacuated(block_of(containers, small), containers) as case:
        with pytest.raises(NotRecovered, match=r"/app/models/model_builtin\.joblib: no such file.*SNAPSHOT:path"):
            case.recover("process")
        assert not small.living()
        stamp = INCIDENT.removeprefix("IR-")
        recovery = case.recover("process", f"{stamp}:{MODEL}")
        assert (recovery.model, recovery.unproven) == (MODEL, ())
    assert (small.root / MODEL).read_bytes() == FILES[MODEL]


def test_a_new_container_of_another_image_than_the_one_that_ran_has_to_be_pinned(
    containers: Containers, small: SmallWorkload
) -> None:
    containers.run(API_COMMAND, ports=True)
    wait_until(lambda: containers.answers("/health"), what="the API")
    other = f"{IMAGE}-other"
    build(containers.engine, other, {**FILES, "README": b"another"})
    try:
        id_ = containers.client.inspect_image(other)["Id"]
        names = {"api_image": other, "containers": [containers.asked, f"image={other}", f"image={id_}"]}
        with evacuated(block_of(containers, small, api_mounts=[], **names), containers) as case:
            with pytest.raises(NotRecovered, match=f"{other} to be the image that ran.*; got {id_}"):
                case.recover("container")
            assert case.running == []
            assert case.recover("container", api_image=id_).unproven == ()
            assert case.inspect(f"{INCIDENT}-api-1")["Image"] == id_
    finally:
        with suppress(Exception):
            containers.client.remove_image(other, force=True)


@pytest.mark.soak
def test_a_new_container_that_fails_is_ended_kept_for_its_logs_and_replaced_by_the_next_recovery(
    containers: Containers, small: SmallWorkload
) -> None:
    with evacuated(block_of(containers, small), containers) as case:
        broken = {"MODEL_PATH": "/app/models/none.joblib"}
        with pytest.raises(NotRecovered, match=r"none\.joblib"):
            case.recover("container", api_environment=broken)
        assert (case.running, case.inspect(f"{INCIDENT}-api-1")["State"]["Status"]) == ([], "exited")
        assert case.context.adapters.host.refuses(case.context.workload.lock)
        right = {"MODEL_PATH": "/app/models/model_builtin.joblib"}
        assert case.recover("container", api_environment=right).container == f"{INCIDENT}-api-2"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_link_that_leads_the_engine_elsewhere_after_the_look_is_found_out(
    containers: Containers, small: SmallWorkload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (elsewhere := tmp_path / "elsewhere").mkdir()
    (elsewhere / "model_builtin.joblib").write_bytes(pickle.dumps("theirs"))
    models, kept = small.root / "models", small.root / "kept"
    with evacuated(block_of(containers, small), containers) as case:
        start = case.context.adapters.engine.start

        def swapped(id_: str) -> None:
            models.rename(kept)
            models.symlink_to(elsewhere)
            start(id_)
            models.unlink()
            kept.rename(models)

        monkeypatch.setattr(case.context.adapters.engine, "start", swapped)
        with pytest.raises(NotRecovered, match="another folder"):
            case.recover("container")
        assert case.running == []
