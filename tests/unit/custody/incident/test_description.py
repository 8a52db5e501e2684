"""What a file says of a workload is what its block would say, and what the block refuses freezes nothing."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from blocks.file import load, workload_given
from blocks.workload import Workload
from tasks.custody.errors import Refused
from tasks.custody.incident.description import one, place, read_tables, recognisable, tables

ROOT = {"root": "/srv/portfolio"}


def test_what_is_left_out_has_the_value_of_the_block() -> None:
    block = Workload(**ROOT)
    for field, value in recognisable(ROOT, block.host).items():
        assert value == (ROOT["root"] if field == "root" else getattr(block, field)), field


@pytest.mark.parametrize(
    "wrong",
    [
        {"root": "/"},
        {"root": "srv"},
        {"api_pattern": ""},
        {"worker_pattern": "("},
        {"training_pattern": ".*"},
        {"bystanders": ["filebeat", ".*"]},
        *({"units": [name]} for name in ("portfolio", "x/y.service", "evacuation-worker.service", "cron.service")),
        *({"units": ["a.service", name]} for name in ("user@0.service", "ssh.service", "systemd-journald.service")),
    ],
)
def test_what_the_block_refuses_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        recognisable(ROOT | wrong, "here")
    with pytest.raises(ValueError, match="expected"):
        Workload(**(ROOT | wrong))


@pytest.mark.parametrize("name", ["portfolio-api.service", "api@1.service", "cron-of-ours.service"])
def test_services_of_the_workloads_own_may_be_named(name: str) -> None:
    assert Workload(**ROOT, units=[name]).units == recognisable(ROOT | {"units": [name]}, "here")["units"]


def test_a_workload_without_a_root_is_refused() -> None:
    with pytest.raises(KeyError):
        recognisable({}, "here")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a.toml", ("a.toml", "")),
        ("a.toml:b", ("a.toml", "b")),
        ("/x:y/a.toml", ("/x:y/a.toml", "")),
        ("name", ("name", "")),
        ("a:b", ("a:b", "")),
    ],
)
def test_a_file_and_the_name_in_it(text: str, found: tuple[str, str]) -> None:
    assert place(text) == found


def test_the_table_that_is_meant() -> None:
    found = tables("f", "[workload.a]\nx = 1\n[store.b]\ny = 2\n[store.c]\ny = 3")
    assert one(found, "workload", "f") == ("a", {"x": 1})
    assert one(found, "store", "f", "c") == ("c", {"y": 3})
    for name, words in (("", "got b, c"), ("a", "'a' of b, c")):
        with pytest.raises(Refused, match=words):
            one(found, "store", "f", name)


@pytest.mark.parametrize("text", ["", "workload = 1", "[workload]\nroot = '/srv/a'", "[other.a]", "["])
def test_what_is_no_such_file_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="Correct it there" if text == "[" else "evacuation init"):
        tables("f", text)


def test_of_a_file_that_is_not_there_the_path_is_to_be_checked(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"mistyped\.toml: .*Check the path"):
        read_tables(tmp_path / "mistyped.toml")


@pytest.mark.parametrize(
    ("command", "port"),
    [
        ("venv/bin/python -m uvicorn api.app:app --host 0.0.0.0 --port 8123", 8123),
        ("uvicorn api.app:app --port=9001", 9001),
        ("flask run -p 5000", 5000),
        ("gunicorn -p /run/gunicorn.pid -b 127.0.0.1:9002 api.app:app", 9002),
        ("gunicorn --bind=[::1]:9003 api.app:app", 9003),
        ("gunicorn -b unix:/run/api.sock api.app:app", 8000),
        ("make api PORT=9004", 9004),
        ("env PORT=1 uvicorn api.app:app --port 9005", 9005),
        ("uvicorn api.app:app --port 1 --port 9006", 9006),
        ("uvicorn api.app:app --workers 4 --timeout-keep-alive 75", 8000),
    ],
)
def test_the_api_answers_at_the_port_that_its_command_names(command: str, port: int) -> None:
    assert Workload(**ROOT, api_command=command.split()).api_address == f"http://127.0.0.1:{port}"


def test_what_the_command_leaves_open_its_environment_says_and_what_is_given_is_kept() -> None:
    environment = {"PORT": "9007", "MODEL_PATH": "models/a.joblib"}
    without = Workload(**ROOT, api_command=["venv/bin/serve"], api_environment=environment)
    assert without.api_address == "http://127.0.0.1:9007"
    assert Workload(**ROOT, api_environment=environment).api_address == "http://127.0.0.1:8000"
    shell = ["sh", "-c", "exec uvicorn api.app:app --port 9008"]
    assert Workload(**ROOT, api_command=shell).api_address == "http://127.0.0.1:9008"
    given = Workload(**ROOT, api_command=shell, api_url="https://api.example:443")
    assert given.api_address == "https://api.example:443"


def test_a_block_that_says_nothing_of_a_contract_has_the_runbooks() -> None:
    names = ("health_path", "model_at", "reload_path", "predict_path", "canary_request", "prediction_at", "api_headers")
    contract = [getattr(Workload(**ROOT), name) for name in names]
    assert contract == ["/health", "/model", "/reload", "/predict", None, "", ""]


COMMAND = ["gunicorn", "--bind", "127.0.0.1:9001", "app:app"]


@pytest.mark.parametrize(
    ("fields", "agree"),
    [
        ({"api_command": COMMAND}, True),
        ({"api_command": COMMAND, "api_url": "http://127.0.0.1:9001"}, True),
        ({"api_command": COMMAND, "api_url": "http://localhost:9001"}, True),
        ({"api_command": COMMAND, "api_url": "https://api.example"}, True),
        ({"api_command": ["make", "api"], "api_url": "http://127.0.0.1:9000"}, True),
        ({"api_url": "http://127.0.0.1:9000"}, True),
        ({"api_command": COMMAND, "api_url": "http://127.0.0.1:9000", "containers": ["name=api"]}, True),
        ({"api_command": COMMAND, "api_url": "http://127.0.0.1:9000", "units": ["house-api.service"]}, True),
        ({"api_command": COMMAND, "api_url": "https://localhost", "api_port": 9001}, True),
        ({"api_command": COMMAND, "api_url": "http://127.0.0.1:9000"}, False),
        ({"api_command": COMMAND, "api_url": "http://localhost"}, False),
        ({"api_command": COMMAND, "api_url": "https://[::1]"}, False),
        ({"api_command": ["serve"], "api_environment": {"PORT": "9001"}, "api_url": "http://0.0.0.0:9"}, False),
    ],
)
def test_two_ports_that_disagree_are_read_and_not_saved(fields: dict[str, Any], *, agree: bool) -> None:
    block = Workload(**(ROOT | fields))
    with nullcontext() if agree else pytest.raises(ValueError, match="expected one port"):
        block.require_one_port()
    if not agree:
        with pytest.raises(ValueError, match="expected one port"):
            block.save("portfolio")


def test_a_file_with_two_ports_is_not_saved_and_may_be_evacuated_by_hand(tmp_path: Path) -> None:
    file = tmp_path / "evacuation.toml"
    file.write_text(f'[workload.a]\nroot = "/srv/a"\napi_command = {COMMAND}\napi_url = "http://127.0.0.1:9"\n')
    assert workload_given(file)[1].api_address == "http://127.0.0.1:9"
    with pytest.raises(ValueError, match="got 9 in api_url and 9001 in api_command"):
        load(file)
