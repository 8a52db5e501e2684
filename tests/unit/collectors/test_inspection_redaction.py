"""What an engine tells of a container: each word in the light of the command or field in which it stands."""

import json
from typing import Any

import pytest

from tasks.collectors.containers import redact_inspection
from tasks.custody.evidence.redact import redact_environment

CANARY = "sunflower"
ID = "0f3c" * 16


def describe(**more: Any) -> dict[str, Any]:
    """An inspection as the engine gives it, in small."""
    configured = {"Entrypoint": ["python", "-u"], "Cmd": ["src/train.py", "--mode", "full"], "Image": "python:3.11"}
    state = {"Status": "paused", "Error": "", "StartedAt": "2026-01-02T03:04:05.678901234Z", "Pid": 412}
    return {
        "Id": ID,
        "Name": "/trainer-zork",
        "Path": "python",
        "Args": ["-u", "src/train.py", "--mode", "full"],
        "Image": f"sha256:{ID}",
        "State": state | more.pop("State", {}),
        "HostConfig": {"Binds": ["/srv/zork/models:/models:rw"], "NetworkMode": "zork_net", "Memory": 1024}
        | more.pop("HostConfig", {}),
        "Config": configured | more.pop("Config", {}),
        "NetworkSettings": {"Networks": {"zork_net": {"IPAddress": "172.17.0.2", "Aliases": ["zork"]}}},
        **more,
    }


def test_what_the_engine_itself_tells_is_shown() -> None:
    assert redact_inspection(describe()) == describe()


@pytest.mark.parametrize(
    "more",
    [
        {"Path": "loader", "Args": [CANARY]},
        {"Path": "tini", "Args": ["--", "loader", "--licence", CANARY]},
        {"Config": {"Entrypoint": ["python", "-u"], "Cmd": ["--licence", CANARY]}},
        {"Config": {"Entrypoint": ["python"], "Cmd": [CANARY, "--licence"]}},
        {"Config": {"Entrypoint": ["sh", "-c"], "Cmd": [f"echo {CANARY}"]}},
        {"Config": {"Entrypoint": None, "Cmd": ["loader", CANARY]}},
        {"Config": {"Healthcheck": {"Test": ["CMD", "probe", CANARY]}}},
        {"Config": {"Healthcheck": {"Test": ["CMD-SHELL", f"probe {CANARY}"]}}},
        {"Config": {"OnBuild": [f"RUN login {CANARY}"]}},
        {"Config": {"Env": [f"NVIDIA_LICENCE={CANARY}"]}},
        {"HostConfig": {"Annotations": {"Name": CANARY}}},
        {"HostConfig": {"StorageOpt": {"size": CANARY}}},
        {"HostConfig": {"SecurityOpt": [f"label:{CANARY}"]}},
        {"HostConfig": {"LogConfig": {"Type": "syslog", "Config": {"licence": CANARY}}}},
        {"State": {"Error": f"no such licence: {CANARY}"}},
        {"State": {"Health": {"Status": "healthy", "Log": [{"ExitCode": 1, "Output": f"licence {CANARY}"}]}}},
        {"ANewField": CANARY},
    ],
    ids=str,
)
def test_no_word_that_somebody_configured_is_shown_because_of_its_place(more: dict[str, Any]) -> None:
    shown = redact_inspection(describe(**more))
    assert CANARY not in json.dumps(shown)
    assert shown["Id"] == ID
    assert shown["State"]["Pid"] == 412
    assert redact_inspection(shown) == shown


def test_entrypoint_and_command_are_one_command_of_which_the_program_stands_in_the_first() -> None:
    shown = redact_inspection(
        describe(Config={"Entrypoint": ["/opt/run"], "Cmd": ["--licence", CANARY, "--mode", "full"]})
    )
    assert shown["Config"]["Entrypoint"] == ["/opt/run"]
    assert [*shown["Config"]["Cmd"][:1], *shown["Config"]["Cmd"][2:]] == ["--licence", "--mode", "full"]


@pytest.mark.parametrize("name", ["NVIDIA_LICENCE", "CUDA_X", "OMP_ANY", "JOBLIB_OWNER", "MKL_NOTE"])
def test_a_variable_that_looks_like_one_of_a_library_shows_numbers_and_known_words_alone(name: str) -> None:
    assert redact_environment({name: CANARY})[name] != CANARY
    for value in ("8", "0,1", "all", "compute,utility", "false"):
        assert redact_environment({name: value}) == {name: value}
