"""What is kept of containers: taken while they are paused, redacted where it is ours, byte-exact where it is theirs."""

import json
import shutil
from pathlib import Path

import pytest

from tasks.collectors.containers import redact_inspection
from tasks.containment.freeze import freeze
from tasks.containment.stop import stop
from tasks.custody.evidence.acquisition import Evidence, Outcome
from tasks.evidence.collect import collect
from tasks.runtime.context import RunContext
from tests.support.containers import FILES, Containers
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload

pytestmark = pytest.mark.whole

LAYER = "mkdir -p /app/logs; echo line >/app/logs/api-1.log; echo up; exec sleep 600"


def nothing_in(root: Path) -> None:
    """A deployment that has all of its files in its containers."""
    for name in ("models", "artifacts", "logs"):
        shutil.rmtree(root / name)


def taken(context: RunContext, collector: str) -> Evidence:
    evidence: Evidence = made(collect.fn(context, collector))
    return evidence


def content(context: RunContext, stored: str) -> bytes:
    return (context.directory.evidence_dir(1) / stored).read_bytes()


def test_each_container_is_looked_into_while_it_is_paused(containers: Containers, small: SmallWorkload) -> None:
    name = f"{containers.mark}-api"
    secret = {"DB_PASSWORD": "hunter2", "MODEL_PATH": "/app/models/m"}
    containers.run(["sh", "-c", "echo x >/app/new; echo up; exec sleep 600"], name=name, environment=secret)
    with case_of(containers.block(small)) as context:
        freeze.fn(context)
        evidence = taken(context, "containers")
        inspect = content(context, f"containers/{name}/inspect.json")
        assert json.loads(content(context, "containers.json"))[0]["name"] == name
        assert b"sleep 600" in content(context, f"containers/{name}/top.txt")
        assert {"Path": "/app/new", "Kind": 1} in json.loads(content(context, f"containers/{name}/diff.json"))
    assert evidence.outcome is Outcome.COLLECTED
    assert evidence.needed
    about = json.loads(inspect)
    assert about["State"]["Status"] == "paused"
    assert "MODEL_PATH=/app/models/m" in about["Config"]["Env"]
    assert b"hunter2" not in inspect


def test_of_a_container_that_was_stopped_unseen_what_it_ran_is_lost_and_the_rest_is_taken(
    containers: Containers, small: SmallWorkload
) -> None:
    name = f"{containers.mark}-api"
    containers.run(["sh", "-c", LAYER], name=name)
    with case_of(containers.block(small)) as context:
        freeze.fn(context)
        stop.fn(context)
    with case_of(containers.block(small)) as context:
        freeze.fn(context)
        evidence, files = taken(context, "containers"), taken(context, "container_files")
        assert json.loads(content(context, f"containers/{name}/inspect.json"))["Id"]
    assert evidence.lost
    assert [loss.source for loss in evidence.losses] == [f"containers/{name}/top.txt"]
    assert files.outcome is Outcome.COLLECTED
    assert f"containers/{name}/container.log" in [file.stored for file in files.files]


def test_an_inspection_is_redacted_wherever_a_secret_may_stand() -> None:
    about = {
        "Config": {
            "Env": ["API_TOKEN=abc", "PLAIN=1", "NOVALUE"],
            "Cmd": ["serve", "--password", "abc", "--port=1"],
            "Labels": {"db.password": "abc", "team": "ml"},
            "Healthcheck": {"Test": ["CMD", "curl", "http://u:abc@h/"]},
        },
        "Mounts": [{"Source": "/x", "RW": True}],
        "Args": None,
    }
    hidden = redact_inspection(about)
    assert "abc" not in json.dumps(hidden)
    assert [word.partition("=")[0] for word in hidden["Config"]["Env"]] == ["API_TOKEN", "PLAIN", "NOVALUE"]
    assert hidden["Config"]["Labels"]["team"] == "ml"
    assert hidden["Mounts"] == about["Mounts"]
    assert hidden["Args"] is None


def test_log_and_files_of_layer_volume_and_mount_are_kept_before_the_container_vanishes(
    containers: Containers, small: SmallWorkload, tmp_path: Path
) -> None:
    nothing_in(small.root)
    (tmp_path / "bound").mkdir()
    (tmp_path / "bound/summary_builtin.json").write_bytes(b"{}")
    name = f"{containers.mark}-api"
    binds = [f"{containers.mark}-models:/app/models", f"{tmp_path}/bound:/app/artifacts"]
    containers.run(["sh", "-c", LAYER], name=name, binds=binds, auto_remove=True)
    with case_of(containers.block(small)) as context:
        freeze.fn(context)
        evidence = taken(context, "container_files")
        stop.fn(context)
        assert content(context, "models/model_builtin.joblib") == FILES["models/model_builtin.joblib"]
        assert content(context, "logs/api-1.log") == b"line\n"
        assert content(context, "artifacts/summary_builtin.json") == b"{}"
        assert content(context, f"containers/{name}/container.log").endswith(b" up\n")
        assert {taken(context, field).outcome for field in ("models", "logs", "artifacts")} == {Outcome.EMPTY}
    assert evidence.outcome is Outcome.COLLECTED
    model = next(file for file in evidence.files if file.stored.startswith("models/"))
    assert (model.source, model.note) == ("/app/models/model_builtin.joblib", f"in container {name}")


def test_what_a_container_changed_in_its_own_layer_is_kept_or_named_as_not_taken(
    containers: Containers, small: SmallWorkload
) -> None:
    """A program that was written into a running container was in no store, and a run ended Verified without a word."""
    name = f"{containers.mark}-api"
    change = (
        "cd /app; echo intruder >extra.py; echo more >>stubborn.py; mkdir -p /opt/a; echo state >/opt/a/'s b.bin'; "
        "mkdir empty; chmod 700 models; mkfifo pipe; ln -s /etc/passwd link; rm counter.py; echo K=1 >.env; "
        "echo 'password = \"Zq7canaryX\"' >settings.py; echo m >left.joblib; head -c 17000000 /dev/zero >large; "
        "mkdir -p uvicorn/__pycache__; echo c >uvicorn/__pycache__/c.pyc; echo log >logs/a.log; echo v >/vol/v; "
    )
    containers.run(["sh", "-c", f"{change} echo up; exec sleep 600"], name=name, binds=[f"{containers.mark}-v:/vol"])
    with case_of(containers.block(small)) as context:
        freeze.fn(context)
        evidence = taken(context, "container_files")
        stop.fn(context)
        code = taken(context, "code")
        there = f"containers/{name}/changed"
        assert content(context, f"{there}/app/extra.py") == b"intruder\n"
        assert content(context, f"{there}/app/stubborn.py").endswith(b"more\n")
        assert content(context, f"{there}/opt/a/s%20b.bin") == b"state\n"
        rows = json.loads(content(context, "not_taken.json"))["not_taken"]
    assert evidence.outcome is Outcome.COLLECTED
    kept = {file.stored for file in evidence.files if "/changed/" in file.stored}
    assert kept == {f"{there}/app/extra.py", f"{there}/app/stubborn.py", f"{there}/opt/a/s%20b.bin"}
    below = {
        row["name"].removeprefix(f"containers/{name}"): row for row in rows if row["name"].startswith("containers")
    }
    left = {".env", "large", "left.joblib", "link", "pipe", "settings.py", "uvicorn/__pycache__/"}
    assert below.keys() == {"/image", "/vol/", *(f"/app/{each}" for each in left)}
    assert all(row["reason"] for row in below.values())
    assert below["/app/large"]["bytes"] == 17_000_000
    assert "sha256:" in below["/image"]["reason"]
    assert "Zq7canaryX" not in json.dumps(rows)
    (line,) = [loss.reason for loss in code.losses if loss.source == "not_taken.json"]
    assert f"containers/{name}/image" in line
    assert not code.lost


def test_a_change_that_looks_like_a_log_is_none_of_the_blocks_logs(
    containers: Containers, small: SmallWorkload
) -> None:
    """It would stand in for the logs that the root has lost."""
    command = "mkdir -p /opt/logs; echo x >/opt/logs/train-1.log; echo up; exec sleep 600"
    name = f"{containers.mark}-api"
    containers.run(["sh", "-c", command], name=name, working_dir="/nowhere")
    with case_of(containers.block(small)) as context:
        freeze.fn(context)
        stored = [file.stored for file in taken(context, "container_files").files]
        assert f"containers/{name}/changed/opt/logs/train-1.log" in stored
        assert context.state.container_files.read() == []


def test_a_name_that_the_root_provides_goes_under_the_containers_own(
    containers: Containers, small: SmallWorkload
) -> None:
    names = sorted([f"{containers.mark}-a", f"{containers.mark}-b"])
    for name in names:
        containers.run(["sh", "-c", LAYER], name=name)
    with case_of(containers.block(small)) as context:
        freeze.fn(context)
        stored = {file.stored for file in taken(context, "container_files").files}
        assert taken(context, "models").outcome is Outcome.COLLECTED
        root = content(context, "models/model_builtin.joblib")
    assert root == (small.root / "models/model_builtin.joblib").read_bytes()
    assert {f"containers/{name}/models/model_builtin.joblib" for name in names} <= stored
    assert "models/model_builtin.joblib" not in stored
    assert len([name for name in stored if name.endswith("logs/api-1.log")]) == 2
    assert "logs/api-1.log" in stored


def test_a_folder_of_the_root_that_is_mounted_is_collected_once(containers: Containers, small: SmallWorkload) -> None:
    containers.run(["sh", "-c", "echo up; exec sleep 600"], binds=[f"{small.root}/models:/app/models"])
    with case_of(containers.block(small)) as context:
        freeze.fn(context)
        files = {file.stored for file in taken(context, "container_files").files}
        assert not [name for name in files if "models" in name]
        assert taken(context, "models").files


def test_hostile_names_links_and_pipes_cost_themselves_only(containers: Containers, small: SmallWorkload) -> None:
    nothing_in(small.root)
    hostile = (
        "cd /app/logs; echo good >good.log; ln -s good.log link.log; ln good.log hard.log; ln -s /etc/shadow out.log; "
        "ln -s nothing torn.log; mkfifo pipe.log; mkdir dir.log; echo x >'a b\n.log'; echo y >.hidden.log; "
        r"echo z >$(printf 'bad\377.log'); "
    )
    containers.run(["sh", "-c", f"{hostile} echo up; exec sleep 600"])
    with case_of(containers.block(small)) as context:
        freeze.fn(context)
        evidence = taken(context, "container_files")
        assert (
            content(context, "logs/link.log") == content(context, "logs/good.log") == content(context, "logs/hard.log")
        )
    stored = {file.stored for file in evidence.files}
    losses = {loss.source.rpartition("/")[2]: loss for loss in evidence.losses}
    assert {"logs/a%20b%0A.log", "logs/bad%FF.log"} <= stored
    assert "logs/.hidden.log" not in stored
    assert losses.keys() == {"out.log", "torn.log", "pipe.log"}
    assert losses["out.log"].outcome is Outcome.DENIED
    assert "leads out of the workload" in losses["out.log"].reason


def test_a_container_that_is_gone_before_the_look_is_a_loss_with_its_reason(
    containers: Containers, small: SmallWorkload
) -> None:
    name = f"{containers.mark}-gone"
    id_ = containers.run(["sh", "-c", "echo up; exec sleep 600"], name=name)
    with case_of(containers.block(small)) as context:
        freeze.fn(context)
        containers.client.remove_container(id_, force=True)
        for collector in ("containers", "container_files"):
            evidence = taken(context, collector)
            assert evidence.lost
            assert name in evidence.losses[0].source
            assert "No such container" in evidence.losses[0].reason


def test_an_engine_that_cannot_be_asked_is_an_outcome(small: SmallWorkload, tmp_path: Path) -> None:
    with case_of(small.block(containers=["image=api"], docker_host=f"unix://{tmp_path}/none.sock")) as context:
        for collector in ("containers", "container_files"):
            evidence = taken(context, collector)
            assert (evidence.outcome, evidence.lost) == (Outcome.FAILED, True)
            assert "No such file or directory" in evidence.reason


@pytest.mark.parametrize("collector", ["containers", "container_files"])
def test_a_workload_without_containers_has_nothing_to_lose(small: SmallWorkload, collector: str) -> None:
    with case_of(small.block()) as context:
        evidence = taken(context, collector)
    assert (evidence.outcome, evidence.needed, evidence.is_complete) == (Outcome.EMPTY, False, True)
