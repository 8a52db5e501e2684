"""A first evacuation.toml: what runs and lies in a folder is found, no secret gets into it, nothing is overwritten."""

import errno
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import tomllib
from contextlib import chdir
from pathlib import Path, PurePath
from typing import Any

import psutil
import pytest

from blocks.file import store_given, workload_given
from flows.cli import run
from tasks.acquisition.matching import find_names
from tasks.cli import first_look
from tasks.cli.found import Found
from tasks.cli.init import EXAMPLES, _names_a_file, _names_a_model, _point_to, compose_file
from tasks.custody.containment.identity import ContainerIdentity
from tasks.custody.evidence.pattern import matches_any
from tasks.custody.incident.exit_codes import REFUSED
from tasks.host.container.membership import Container, Mount
from tasks.host.process.table import unseen_listeners
from tasks.system.declarations import VARIABLE
from tests.support.paper_host import process as on_paper
from tests.support.workloads import SmallWorkload, free_port, wait_until

SERVE = """
import http.server, json, sys
ANSWERS = {
    "/openapi.json": {"paths": {"/v2/heartbeat": {"get": {}}, "/v2/infer": {"post": {}}, "/v2/reload": {"post": {}},
                                "/a b": {"get": {}}, "/{id}/health": {"get": {}}, "/x": None}},
    "/v2/heartbeat": {"up": True, "serves": [{"name/1": "weights/ranker.onnx"}]},
}
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(ANSWERS.get(self.path, {})).encode()
        self.send_response(200 if self.path in ANSWERS else 404)
        self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *_): pass
    def do_POST(self):
        open("posted", "w").close()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--listen") + 1])), Handler).serve_forever()
"""
MAPS = """
import mmap
file = open({!r}, "rb")
code = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_EXEC)
"""
LOOP = "while :; do venv/bin/python jobs/fit.py --rounds 9; sleep 1; done"
SECRET = "Zq8xW2kLp0vB3nM"


@pytest.fixture
def house(small: SmallWorkload) -> SmallWorkload:
    """A service of a kind that no default names, beside the small workload's own files."""
    for name, text in {"serve.py": SERVE, "jobs/fit.py": "import time; time.sleep(600)", "nightly.sh": LOOP}.items():
        (small.root / name).parent.mkdir(exist_ok=True)
        (small.root / name).write_text(text)
    for name in ("weights/ranker.onnx", "runs/1/a/model.pt", "runs/2/model.pt", "outputs/score.json", ".venv/x.pkl"):
        (small.root / name).parent.mkdir(parents=True, exist_ok=True)
        (small.root / name).touch()
    return small


@pytest.fixture
def serving(house: SmallWorkload) -> SmallWorkload:
    """The same at work."""
    house.start(["venv/bin/python", "serve.py", "--listen", str(house.port)], MODEL_PATH="weights/ranker.onnx")
    house.start(["sh", "./nightly.sh"])
    wait_until(house.healthy, what="the API's answer")
    wait_until(lambda: len(house.living()) >= 3, what="the loop's training")
    return house


def fields_of(path: Path) -> dict[str, Any]:
    """What stands in the file of the only workload."""
    (fields,) = tomllib.loads(path.read_text())["workload"].values()
    return dict(fields)


def init(*words: object) -> int:
    """Type it in this process, and come back to where one stood."""
    with chdir(Path.cwd()):
        return run(["init", *map(str, words)])


def typed(*words: object) -> subprocess.CompletedProcess[str]:
    """Type a command apart: what this process has started would be its own helpers."""
    command = [sys.executable, "-m", "flows.cli", *map(str, words)]
    environment = {name: value for name, value in os.environ.items() if name != "S3_BUCKET"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def look(path: Path, *pids: int) -> set[int]:
    """Return the pids that the product finds by the written file. None of `pids` is left in doubt."""
    seen = json.loads(typed("status", path, "--json").stdout)["workloads"][0]
    doubts = [
        line
        for line in (*seen["suspects"], *seen["unknown"])
        if line.startswith(tuple(f"process {each}:" for each in pids))
    ]
    assert doubts == [], "of this test's processes: others may run beside it"
    return {each["pid"] for each in seen["processes"]}


@pytest.mark.slow
def test_what_is_written_finds_every_process_and_nothing_is_left(serving: SmallWorkload, tmp_path: Path) -> None:
    bystander = serving.start(["tail", "-f", "serve.py"])
    path = tmp_path / "house.toml"
    done = typed("init", serving.root, "--output", path)
    assert done.returncode == 0, done.stderr
    pids = {each.pid for each in serving.living()}
    assert look(path, *pids) == pids - {bystander.pid}
    fields = fields_of(path)
    assert fields["root"] == str(serving.root)
    assert fields["api_command"] == ["venv/bin/python", "serve.py", "--listen", str(serving.port)]
    assert fields["api_environment"]["MODEL_PATH"] == "weights/ranker.onnx"
    assert [len(re.findall(fields["training_pattern"], line)) for line in ("sh nightly.sh", "my-jobs/fit.py")] == [1, 0]
    assert fields["models"] == ["models/**/*.joblib", "runs/**/*.pt", "weights/**/*.onnx"]
    assert fields["artifacts"] == ["artifacts/**/*.csv", "artifacts/**/*.json", "outputs/**/*.json"]
    assert {"weights", "runs", "outputs", "logs"} <= set(fields["folders"])
    assert tomllib.loads(path.read_text())["store"] == {"work-load": {}}
    assert "# The workload's root folder" in path.read_text(), "each field says what it means"
    assert done.stdout.splitlines()[-1].endswith(f" doctor {path}")


@pytest.mark.slow
def test_what_the_file_calls_the_workloads_is_found_by_it_and_each_cure_in_it_holds(
    serving: SmallWorkload, tmp_path: Path
) -> None:
    """A tool that writes is, a shell that no pattern can make one is not, and its line excuses it."""
    root, path = serving.root, tmp_path / "house.toml"
    os.mkfifo(root / "out.fifo")
    os.mkfifo(root / "in.fifo")
    pair = ["sh", "-c", "exec cat out.fifo > copy.log"], ["sh", "-c", "while :; do read line < in.fifo; done; echo"]
    writer, loop = (serving.start(each).pid for each in pair)
    wait_until(lambda: psutil.Process(writer).name() == "cat", what="the writer")
    assert typed("init", root, "--output", path).returncode == 0
    text, fields = path.read_text(), fields_of(path)
    named = {int(pid) for pid in re.findall(r"^# (?:api|training|worker): process (\d+)", text, re.MULTILINE)}
    assert writer in named
    assert loop not in named
    assert named <= look(path, *named)
    assert "while" not in fields["training_pattern"]
    (cure,) = (
        found[0]
        for line in text.splitlines()
        if f"process {loop}" in line and (found := re.search(r"bystanders = \[.*?\]", line))
    )
    path.write_text(text.replace("\ntraining_pattern", f"\n{cure}\ntraining_pattern"))
    look(path, loop, writer)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_an_api_of_roots_is_asked_about_before_anything_is_stopped(
    serving: SmallWorkload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (hosts := tmp_path / "hosts").mkdir()
    monkeypatch.setenv(VARIABLE, str(hosts))
    refused = "user: no recovery would start the API 復旧時に起動できない: expected an account other than root"
    assert refused not in typed("init", serving.root, "--output", tmp_path / "v.toml").stdout, "all of it is root's"
    serving.root.chmod(0o777)
    assert refused in typed("init", serving.root, "--output", tmp_path / "w.toml").stdout
    (hosts / "any.toml").write_text('user = "root"\n')
    assert refused not in typed("init", serving.root, "--output", tmp_path / "x.toml").stdout


@pytest.mark.slow
def test_the_contract_is_what_the_api_says_by_get_alone(serving: SmallWorkload, tmp_path: Path) -> None:
    assert typed("init", serving.root, "--output", tmp_path / "w.toml").returncode == 0
    fields = fields_of(tmp_path / "w.toml")
    assert {name: fields[name] for name in ("api_url", "health_path", "model_at", "reload_path", "predict_path")} == {
        "api_url": f"http://127.0.0.1:{serving.port}",
        "health_path": "/v2/heartbeat",
        "model_at": "/serves/0/name~11",
        "reload_path": "/v2/reload",
        "predict_path": "/v2/infer",
    }
    assert not (serving.root / "posted").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "reload_path"),
    [
        (('"/v2/reload"', '"/v2/swap"'), ""),  # it names its model, which tells
        (("weights/ranker.onnx", "ranker"), "/v2/reload"),
        (('"/v2/reload"', '"/v2/swap"', "weights/ranker.onnx", "ranker"), None),
    ],
)
def test_whether_an_api_that_names_no_model_can_load_another_is_asked(
    house: SmallWorkload, tmp_path: Path, change: tuple[str, ...], reload_path: str | None
) -> None:
    """It had another way to load one, which nobody described, and its recovery was complete with its start's."""
    text = SERVE
    for old, new in zip(change[::2], change[1::2], strict=True):
        text = text.replace(old, new)
    (house.root / "serve.py").write_text(text)
    house.start(["venv/bin/python", "serve.py", "--listen", str(house.port)])
    wait_until(house.healthy, what="the API's answer")
    told = typed("init", house.root, "--output", tmp_path / "w.toml").stdout
    assert fields_of(tmp_path / "w.toml").get("reload_path") == reload_path
    assert ("reload_path: can it load another model" in told) is (reload_path is None)


@pytest.mark.slow
def test_no_secret_of_a_command_line_or_environment_is_written(house: SmallWorkload, tmp_path: Path) -> None:
    words = ["venv/bin/python", "serve.py", "--listen", str(house.port), "--api-token", SECRET]
    api = house.start(words, DB_PASSWORD=SECRET, HOUSE_SALT=f"x{SECRET}")
    wait_until(house.healthy, what="the API's answer")
    told = typed("init", house.root, "--output", tmp_path / "w.toml")
    text = (tmp_path / "w.toml").read_text()
    assert SECRET not in told.stdout + told.stderr + text
    assert "api_command" not in fields_of(tmp_path / "w.toml")
    for line in ("api_command: hidden in part", "store: where evidence goes"):
        assert line in told.stdout
        assert line in text, "it stands in the file too"
    assert look(tmp_path / "w.toml", api.pid) == {api.pid}


@pytest.mark.slow
def test_names_of_the_accounts_choosing_neither_write_nor_colour(house: SmallWorkload, tmp_path: Path) -> None:
    odd = house.root / "x\n[store.evil]\x1b[31m"
    for folder in (odd, house.root / "models"):
        folder.mkdir(exist_ok=True)
        (folder / "m\n[store.evil]\nfolder = 'x'.pkl").touch()
        (folder / "m\udcff.pkl").touch()
    empty = f"import runpy, sys; sys.argv[1:] = ['--listen', '{house.port}']; runpy.run_path('../serve.py')"
    house.started.append(subprocess.Popen(["../venv/bin/python", "-c", empty], cwd=odd))
    wait_until(house.healthy, what="the API's answer")
    done = typed("init", house.root, "--output", tmp_path / "w.toml")
    assert done.returncode == 0, done.stderr
    assert (done.stdout + (tmp_path / "w.toml").read_text()).replace("\n", "").isprintable()
    read = tomllib.loads((tmp_path / "w.toml").read_text())
    assert (read["store"], len(read["workload"])) == ({"work-load": {}}, 1)


@pytest.mark.slow
def test_of_several_servers_the_api_is_the_one_that_describes_itself(serving: SmallWorkload, tmp_path: Path) -> None:
    (serving.root / "board.py").write_text((serving.root / "serve.py").read_text().replace("/openapi.json", "/x"))
    board = free_port()
    other = serving.start(["venv/bin/python", "board.py", "--listen", str(board)])
    wait_until(lambda: psutil.Process(other.pid).net_connections(), what="its port")
    told = typed("init", serving.root, "--output", tmp_path / "w.toml")
    assert told.returncode == 0
    fields = fields_of(tmp_path / "w.toml")
    assert fields["api_url"].endswith(f":{serving.port}")
    assert re.search(
        rf"process {other.pid}: .*it listens on \[{board}\] and would be stopped, .*bystanders", told.stdout
    )
    assert "board" not in fields["api_pattern"]
    assert r"board\.py" in fields["worker_pattern"]
    assert other.pid in look(tmp_path / "w.toml")


@pytest.mark.whole
@pytest.mark.slow
def test_two_services_in_one_environment_are_told_apart_by_root(tmp_path: Path) -> None:
    """The one that is looked at gets the environment and its pattern; the other is named by its folder."""
    (tmp_path / "venv/bin").mkdir(parents=True)
    (tmp_path / "venv/pyvenv.cfg").write_text(f"home = {Path(sys.executable).resolve().parent}\n")
    (tmp_path / "venv/bin/python").symlink_to(sys.executable)
    extension = Path(tmp_path / "venv/lib.so")
    extension.write_bytes(b"code of both")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with SmallWorkload(tmp_path / "one") as one, SmallWorkload(tmp_path / "two") as two:
        pids = dict[str, int]()
        for each in (one, two):
            (each.root / "serve.py").write_text(f"{MAPS.format(str(extension))}\n{SERVE}")
            command = [str(tmp_path / "venv/bin/python"), "serve.py", "--listen", str(each.port)]
            pids[each.root.name] = each.start(command).pid
            wait_until(each.healthy, what="its answer")
        for each, other in ((one, two), (two, one)):
            path = tmp_path / f"{each.root.name}.toml"
            done = typed("init", each.root, "--output", path)
            line = f"bystanders = ['cwd={other.root}']"
            assert f"process {pids[other.root.name]}: " in done.stdout, done
            assert line in done.stdout
            assert fields_of(path)["interpreter"] == str(tmp_path / "venv/bin/python")
            path.write_text(path.read_text().replace("\n\n[store", f"\n{line}\n\n[store"))
            assert look(path, *pids.values()) == {pids[each.root.name]}


@pytest.mark.slow
def test_as_many_programs_as_there_are_get_patterns(house: SmallWorkload, tmp_path: Path) -> None:
    for name in ("jobs/one.py", "jobs/two.py", "three.py", "four.py"):
        (house.root / name).write_text("import time; time.sleep(600)")
    started = {house.start(["venv/bin/python", f"{name}.py"]).pid for name in ("jobs/one", "jobs/two", "three", "four")}
    assert typed("init", house.root, "--output", tmp_path / "w.toml").returncode == 0
    assert look(tmp_path / "w.toml") == started
    assert not {int(pid) for pid in re.findall(r"要確認: process (\d+)", (tmp_path / "w.toml").read_text())} & started


@pytest.mark.slow
def test_what_nothing_shown_can_tell_is_named_and_gets_no_pattern(house: SmallWorkload, tmp_path: Path) -> None:
    waits = house.start(["sleep", "600"])
    code = house.start(["venv/bin/python", "-c", f"{SECRET} = 1; import time; time.sleep(600)"])
    assert typed("init", house.root, "--output", tmp_path / "w.toml").returncode == 0
    text = (tmp_path / "w.toml").read_text()
    assert not [name for name in fields_of(tmp_path / "w.toml") if name.endswith("_pattern")]
    for process in (waits, code):
        assert f"# to answer 要確認: process {process.pid}: " in text
    assert "# to answer 要確認: api_command: nothing listens here" in text


@pytest.mark.slow
def test_processes_that_are_alike_are_one_line_with_their_pids(house: SmallWorkload, tmp_path: Path) -> None:
    pids = sorted(house.start(["sleep", "613"]).pid for _ in range(3))
    done = typed("init", house.root, "--output", tmp_path / "w.toml")
    (line,) = [line for line in done.stdout.splitlines() if "sleep 613" in line]
    assert line.startswith(f"  process {pids[0]}: sleep 613: ")
    assert line.endswith(f"; and 2 more like it 同種のプロセス: {pids[1]}, {pids[2]}")


@pytest.mark.parametrize("kind", ["file", "dangling", "folder"])
def test_nothing_is_overwritten(house: SmallWorkload, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "w.toml"
    if kind == "dangling":
        path.symlink_to("nowhere")
    else:
        path.touch() if kind == "file" else path.mkdir()
    before = path.lstat()
    assert init(house.root, "--output", path) == REFUSED
    assert path.lstat() == before
    assert not (tmp_path / "nowhere").exists()


def test_where_nothing_can_be_written_it_says_so(
    house: SmallWorkload, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for words in ([house.root, "--output", tmp_path / "file/w.toml"], [tmp_path / "file", "--example", "gunicorn"]):
        assert init(*words) == REFUSED
        assert "in a folder of ours; got" in capfd.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a folder that another account may write to")
def test_root_writes_nothing_where_another_account_can_replace_it(house: SmallWorkload, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 65534, 65534)
    for words in ([house.root, "--output", tmp_path / "theirs/w.toml"], [tmp_path / "theirs", "--example", "scoring"]):
        assert init(*words) == REFUSED
    assert not [*(tmp_path / "theirs").iterdir()]


def test_without_a_folder_it_is_the_one_where_it_is_typed(house: SmallWorkload) -> None:
    with chdir(house.root):
        assert init() == 0
    assert fields_of(house.root / "evacuation.toml")["root"] == str(house.root)


def test_a_folder_by_its_way_from_here_is_taken(house: SmallWorkload, tmp_path: Path) -> None:
    (house.root / "src/deep").symlink_to(tmp_path)
    with chdir(house.root / "models"):
        assert run(["init", "../src/..", "--output", str(tmp_path / "w.toml")]) == 0
    assert fields_of(tmp_path / "w.toml")["root"] == str(house.root)


def test_of_a_root_that_no_block_may_have_no_file_is_blamed(capfd: pytest.CaptureFixture[str]) -> None:
    assert init("/", "--output", "/nowhere/w.toml") == REFUSED
    assert "Correct the file" not in (told := capfd.readouterr().err)
    assert "As in: evacuation init /srv/house" in told


@pytest.mark.parametrize("root", ["/", "/nowhere/at/all", "/etc/passwd"])
def test_what_is_no_root_is_refused(root: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert init(root, "--output", tmp_path / "w.toml") == REFUSED
    assert "Nothing was touched." in capfd.readouterr().err
    assert not (tmp_path / "w.toml").exists()


def test_whatever_a_comment_or_value_holds_the_file_is_read_as_meant() -> None:
    odd = "\x7f\x1b[31m\n[store.x]\u2028\r\ud83d'\"\\"
    found = Found({"root": "/srv/a b'\"", "api_command": ["\\", "é"], "api_pattern": "it's"}, [odd], {odd: odd})
    found.add("model_at", f"/{odd}")
    read = tomllib.loads(compose_file("a", found, {}))
    assert read == {"workload": {"a": found.fields}, "store": {"a": {}}}
    assert "model_at" in found.missing


@pytest.mark.parametrize("lies", [True, False], ids=["lies there", "none"])
def test_where_no_training_runs_or_lies_the_pattern_matches_nobodys(
    house: SmallWorkload, tmp_path: Path, *, lies: bool
) -> None:
    """Another service's `src/train.py` would be this one's otherwise."""
    if not lies:
        (house.root / "src/train.py").unlink()
    assert init(house.root, "--output", tmp_path / "w.toml") == 0
    fields, text = fields_of(tmp_path / "w.toml"), (tmp_path / "w.toml").read_text()
    assert "to answer 要確認: training_pattern: " in text
    if lies:
        assert "training_pattern" not in fields
    else:
        assert not re.search(fields["training_pattern"], "python src/train.py")
        assert r"name one as in 'jobs/fit\.py'" in text
        assert workload_given(tmp_path / "w.toml")[1].training_pattern == fields["training_pattern"]


def test_what_would_not_be_taken_is_counted_with_the_command_that_lists_it(
    house: SmallWorkload, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (house.root / "data").mkdir()
    for name in ("data/train.csv", "data/test.csv", ".env"):
        (house.root / name).write_text("1,2\n")
    path = tmp_path / "w.toml"
    assert init(house.root, "--output", path) == 0
    (line,) = [line for line in capfd.readouterr().out.splitlines() if "not taken: " in line]
    assert re.search(r"in \d+ places \d+ files of [\d,]+ bytes, which nothing here names", line)
    assert line.endswith(f" plan {path}")
    assert line.strip() in path.read_text()


def taken(path: Path) -> set[str]:
    """The files that a run of this block would copy by pattern or folder."""
    block = workload_given(path)[1]
    patterns = [*block.logs, *block.artifacts, *block.models, *block.folders]
    return {os.fsdecode(name) for name in find_names(os.fsencode(block.root), patterns)[0]}


def test_what_lies_in_a_folder_of_a_usual_name_is_taken_whatever_its_suffix(
    house: SmallWorkload, tmp_path: Path
) -> None:
    """Logs that were written to were called missing, and the run that lost them was Verified."""
    (house.root / "logs/train-20260101_000000.log").unlink()
    (house.root / "models/model_builtin.joblib").unlink()
    odd = {"logs/8321.txt": "logs", "logs/a/9": "logs", "logs/.own": "logs", "models/2026.1/m.json": "models"}
    odd |= {"artifacts/x.parquet": "artifacts", "models/api.bin": "models", "models/v1/served": "models"}
    for name in odd:
        (house.root / name).parent.mkdir(exist_ok=True)
        (house.root / name).touch()
    (house.root / "models/api.bin").unlink()
    (house.root / "models/api.bin").symlink_to("../weights/ranker.onnx")
    for name in ("models/.gitkeep", "models/README.md"):
        (house.root / name).touch()
    assert init(house.root, "--output", tmp_path / "w.toml") == 0
    fields = fields_of(tmp_path / "w.toml")
    assert not set(fields.get("may_be_missing", [])) & {"logs", "models", "artifacts"}
    assert "none lie here now" not in (tmp_path / "w.toml").read_text()
    assert {"logs", "models", "artifacts", "weights"} <= {*fields["folders"]}
    assert odd.keys() <= taken(tmp_path / "w.toml")
    for name, kind in odd.items():
        assert matches_any(name, fields[kind]), name
    for name in ("models/README.md", "models/v1/notes"):
        assert not matches_any(name, fields["models"]), "what is named as a model is judged as one"


def test_text_beside_a_model_goes_along_as_it_did(house: SmallWorkload, tmp_path: Path) -> None:
    for name in ("models/MLmodel", "models/conda.yaml", "results"):
        (house.root / name).touch()
    assert init(house.root, "--output", tmp_path / "w.toml") == 0
    fields = fields_of(tmp_path / "w.toml")
    assert fields["models"] == ["models/**/*.joblib", "runs/**/*.pt", "weights/**/*.onnx"]
    assert "results" not in fields["folders"]
    assert {"models/MLmodel", "models/conda.yaml"} <= taken(tmp_path / "w.toml")


def test_a_usual_folder_stays_named_if_all_that_is_recognised_lies_elsewhere(
    house: SmallWorkload, tmp_path: Path
) -> None:
    shutil.rmtree(house.root / "models")
    (house.root / "models").mkdir()
    (house.root / "models/current").symlink_to("../weights")
    assert init(house.root, "--output", tmp_path / "w.toml") == 0
    assert {"models", "weights"} <= {*fields_of(tmp_path / "w.toml")["folders"]}
    assert {"weights/ranker.onnx", "models/current/ranker.onnx"} & taken(tmp_path / "w.toml")


@pytest.mark.parametrize("kind", ["logs", "models"])
def test_what_may_be_missing_is_only_what_is_not_there(house: SmallWorkload, tmp_path: Path, kind: str) -> None:
    shutil.rmtree(house.root / kind)
    for folder in ("weights", "runs"):
        shutil.rmtree(house.root / folder)
    assert init(house.root, "--output", tmp_path / "w.toml") == 0
    assert fields_of(tmp_path / "w.toml")["may_be_missing"] == [kind]
    assert f"to answer 要確認: {kind}: none lie here now\n" in (tmp_path / "w.toml").read_text()
    (house.root / kind).mkdir()
    (house.root / kind / "__init__.py").touch()
    assert init(house.root, "--output", tmp_path / "x.toml") == 0
    assert f"{kind}: none lie here now but 1 file in its folder, source code" in (tmp_path / "x.toml").read_text()
    assert f"{kind}/__init__.py" in taken(tmp_path / "x.toml")


@pytest.mark.whole
@pytest.mark.slow
@pytest.mark.parametrize("name", ["var/fit-17.out", "all.txt", ".state/8321", "models/.new/part"])
def test_what_the_workload_has_open_for_writing_is_named_by_a_pattern(
    house: SmallWorkload, tmp_path: Path, name: str
) -> None:
    (house.root / name).parent.mkdir(parents=True, exist_ok=True)
    program = f"import time; file = open({name!r}, 'w'); file.write('x'); file.flush(); time.sleep(600)"
    (house.root / "jobs/fit.py").write_text(program)
    house.start(["venv/bin/python", "jobs/fit.py"])
    wait_until(lambda: (house.root / name).exists() and (house.root / name).stat().st_size, what="its file")
    (house.root / "all.md").touch()
    assert typed("init", house.root, "--output", tmp_path / "w.toml").returncode == 0
    fields = fields_of(tmp_path / "w.toml")
    assert matches_any(name, [*fields["logs"], *fields["models"]])
    assert name in taken(tmp_path / "w.toml")
    assert "all.md" not in taken(tmp_path / "w.toml")


def test_what_is_left_out_is_named_with_its_count(house: SmallWorkload, tmp_path: Path) -> None:
    (house.root / "data").mkdir()
    for name in ("data/train.csv", "data/test.csv", ".env"):
        (house.root / name).write_text("1,2\n")
    assert init(house.root, "--output", tmp_path / "w.toml") == 0
    (line,) = [line for line in (tmp_path / "w.toml").read_text().splitlines() if "not taken: " in line]
    assert re.search(r"採取対象外: .*\.env.*, data/ 2 files 8 bytes", line)


def test_a_usual_folder_that_may_not_be_read_is_not_called_empty(
    house: SmallWorkload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scan(folder: Any, real: Any = os.scandir) -> Any:
        """Refuse the logs as the kernel does another account: root may read every folder."""
        if not isinstance(folder, int) and Path(folder) == house.root / "logs":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        return real(folder)

    monkeypatch.setattr(os, "scandir", scan)
    assert init(house.root, "--output", tmp_path / "w.toml") == 0
    text = (tmp_path / "w.toml").read_text()
    assert "logs: its folder may not be read" in text
    assert "logs" not in fields_of(tmp_path / "w.toml").get("may_be_missing", [])


def test_the_file_is_for_our_account_alone(house: SmallWorkload, tmp_path: Path) -> None:
    assert init(house.root, "--output", tmp_path / "w.toml") == 0
    assert stat.S_IMODE((tmp_path / "w.toml").stat().st_mode) == 0o600


def test_a_root_that_a_run_would_refuse_is_named_with_what_declares_it(
    house: SmallWorkload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hosts.d").mkdir()
    (tmp_path / "hosts.d/other.toml").write_text('root = "/srv/other"\n')
    monkeypatch.setenv(VARIABLE, str(tmp_path / "hosts.d"))
    path = tmp_path / "w.toml"
    assert init(house.root, "--output", path) == 0
    assert f'NAME.toml: root = "{house.root}"' in capfd.readouterr().out
    assert "# to answer 要確認: root: a run is refused" in path.read_text()
    assert run(["status", str(path)]) == 0
    assert "refused   a run is refused, for root has declared other folders" in capfd.readouterr().out


@pytest.mark.parametrize("seen", [True, False])
def test_a_port_whose_owner_cannot_be_seen_is_said_to_listen(
    house: SmallWorkload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, seen: bool
) -> None:
    monkeypatch.setattr(first_look, "unseen_listeners", lambda: {} if seen else {4711: 33})
    assert init(house.root, "--output", tmp_path / "w.toml") == 0
    text = (tmp_path / "w.toml").read_text()
    assert "api_command: nothing listens here" in text
    assert ("4711 of user 33, whose process cannot be seen" in text) is not seen
    assert "start the API, and run this again" in text


def test_listeners_whose_files_are_readable_are_seen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert server.getsockname()[1] not in unseen_listeners()


class Engine:
    """An engine with a container, which publishes a port."""

    place = "tcp://127.0.0.1:1"

    def containers(self, *_: object, others: bool) -> tuple[Container, ...]:
        """Return it, if all are asked for."""
        assert others
        return (Container(ContainerIdentity("ab" * 32, ""), "api", "x:2", "x", "running", ports=frozenset({4712})),)

    def close(self) -> None:
        """Have nothing to close."""


@pytest.mark.parametrize(
    ("given", "written_down"), [("tcp://127.0.0.1:1", "tcp://127.0.0.1:1"), ("", ""), ("ssh://ana@host", "")]
)
def test_the_engine_that_was_found_by_the_environment_is_written_down(
    house: SmallWorkload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, written_down: str
) -> None:
    """The shell of the night may lack the variable, and its run would miss the container."""
    monkeypatch.setenv("DOCKER_HOST", given)
    monkeypatch.setattr(first_look, "DockerEngine", Engine)
    assert init(house.root, "--output", tmp_path / "w.toml") == 0
    assert fields_of(tmp_path / "w.toml").get("docker_host", "") == written_down


@pytest.mark.parametrize(
    ("word", "written"), [("./loop.sh", "{elsewhere}/loop.sh"), ("serve.sh", "serve.sh"), ("gone.sh", "gone.sh")]
)
def test_a_script_that_lies_where_the_api_worked_and_not_in_the_root_is_named_whole(
    tmp_path: Path, word: str, written: str
) -> None:
    """The start that was written down was found by no doctor, and nothing asked about it."""
    (root := tmp_path / "root").mkdir()
    (elsewhere := tmp_path / "elsewhere").mkdir()
    for path in (root / "serve.sh", elsewhere / "serve.sh", elsewhere / "loop.sh"):
        path.touch()
    found = Found({"root": str(root)})
    first_look._describe_api(found, on_paper(2, ("/bin/sh", word), cwd=str(elsewhere)), "")
    assert found.fields["api_command"] == ["/bin/sh", written.format(elsewhere=elsewhere)]


def test_a_container_without_anything_of_the_root_is_named_with_the_line_that_includes_it(
    house: SmallWorkload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process was named, and neither it nor its image, nor the field."""
    monkeypatch.setattr(first_look, "DockerEngine", Engine)
    assert init(house.root, "--output", tmp_path / "w.toml") == 0
    text = (tmp_path / "w.toml").read_text()
    assert '4712 of container api (abababababab, x:2); if it is the API\'s: containers = ["image=x:2"]' in text
    assert "containers" not in fields_of(tmp_path / "w.toml")


def test_what_runs_in_its_containers_may_be_a_training(tmp_path: Path) -> None:
    """Three trained in a container that was just named, and the file said that none runs."""
    within = [
        on_paper(2, ("python", "app/fit.py"), container="c"),
        on_paper(3, ("python", "app/fit.py"), container="c"),
    ]
    for there, told in (((), "none runs now and no "), (within, "none is known by its command and no ")):
        found = Found({"root": str(tmp_path)})
        first_look._name_no_training(found, there)
        line = found.missing["training_pattern"]
        assert line.startswith(told)
        assert line.endswith("may be one 学習かもしれない: python app/fit.py") is bool(there)


@pytest.mark.parametrize(
    ("answer", "pointer"),
    [
        ({"engine": {"model": "models/hot/wave v2.json", "version": "7"}}, "/engine/model"),
        ({"engine": {"model": "hot/wave v2.json"}}, "/engine/model"),
        ({"version": "7", "weights": "file://{root}/models/now/wave v2.json"}, "/weights"),
        ({"log": "logs/a.json", "model": "models/gone.json"}, ""),
        ({"log": "logs/a.json", "at": "{root}", "model": "models/hot"}, ""),
        ({"model": "elsewhere/house.joblib"}, "/model"),
    ],
)
def test_where_an_answer_names_a_file_that_is_a_model_here_it_names_the_model(
    tmp_path: Path, answer: dict[str, Any], pointer: str
) -> None:
    """Only suffixes that are models' everywhere were seen, and model_at stayed empty."""
    for name in ("models/hot/wave v2.json", "logs/a.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "models/now").symlink_to("hot")
    told = json.loads(json.dumps(answer).replace("{root}", str(tmp_path)))
    found = Found({"root": str(tmp_path), "models": ["models/**/*.json"]})
    assert _point_to(told, lambda text: _names_a_model(text, found)) == pointer


@pytest.mark.parametrize(
    ("text", "is_asked"),
    [
        ("nets/brain.json", True),
        ("file://{root}/nets/brain.json", True),
        ("logs/a.json", False),
        ("nets/gone.json", False),
        ("nets", False),
        ("../elsewhere.json", False),
        ("nets/\0", False),
        ("x" * 5000, False),
    ],
)
def test_a_file_of_the_root_that_an_answer_names_is_asked_about(tmp_path: Path, text: str, *, is_asked: bool) -> None:
    """The API named its model, of a suffix that may be anything's: model_at stayed empty, and nothing said so."""
    for name in ("root/nets/brain.json", "root/logs/a.json", "elsewhere.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = Found({"root": str(tmp_path / "root"), "logs": ["logs/*.json"]})
    assert _names_a_file(text.replace("{root}", str(tmp_path / "root")), found) is is_asked


AWS = ("S3_BUCKET", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION")


@pytest.mark.parametrize(
    ("environment", "known", "asked"),
    [
        ({}, {}, ("folder", "bucket", "endpoint", "region", "signing")),
        (
            {"AWS_ENDPOINT_URL": "https://s3.example"},
            {"endpoint": "https://s3.example"},
            ("bucket", "prefix", "region", "signing"),
        ),
        ({"S3_BUCKET": "s3://b-1/x"}, {"bucket": "b-1", "prefix": "x"}, ("endpoint", "region", "signing")),
        (
            {"S3_BUCKET": "s3://b-1", "AWS_DEFAULT_REGION": "eu-central-1"},
            {"bucket": "b-1", "region": "eu-central-1"},
            ("prefix", "endpoint", "signing"),
        ),
    ],
)
def test_the_store_is_written_as_far_as_the_environment_tells_and_asks_for_the_rest(
    house: SmallWorkload,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    known: dict[str, str],
    asked: tuple[str, ...],
) -> None:
    for name in AWS:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    path = house.root / "w.toml"
    assert init(house.root, "--output", path) == 0
    assert tomllib.loads(path.read_text())["store"] == {"work-load": known}
    lines = path.read_text().partition("[store.")[2].splitlines()
    comments = dict(re.findall(r"^# (?!credentials)(\w+) = (.*)$", "\n".join(lines), re.MULTILINE))
    assert set(asked) <= set(comments)
    assert not set(known) & set(comments)
    path.write_text(re.sub(r"^# (bucket|signing) = ", r"\1 = ", path.read_text(), flags=re.MULTILINE))
    store_given(path)
    assert re.search("^# .*AWS_PROFILE", path.read_text(), re.MULTILINE), "where credentials come from"


def test_a_store_that_the_environment_names_wrongly_is_refused_and_no_part_of_a_password_is_written(
    house: SmallWorkload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("S3_BUCKET", raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"https://user:{SECRET}@s3.example")
    assert init(house.root, "--output", tmp_path / "w.toml") == REFUSED
    told = capfd.readouterr()
    assert SECRET not in told.out + told.err
    assert not (tmp_path / "w.toml").exists()


@pytest.mark.parametrize(
    ("content", "at"),
    [
        ({"model": "m.onnx"}, "/model"),
        ({"a": [{"b": 1}, {"~/": "/srv/x/m.onnx"}]}, "/a/1/~0~1"),
        ({"model": "unnamed"}, ""),
        ("m.onnx", ""),
        (None, ""),
        ({"a" * 300: "m.onnx"}, ""),
        (json.loads('{"a":' * 900 + '"m.onnx"' + "}" * 900), ""),
    ],
)
def test_the_model_that_an_answer_names_is_pointed_to(content: Any, at: str) -> None:
    assert _point_to(content, lambda text: _names_a_model(text, Found({"root": "/nowhere"}))) == at


@pytest.mark.parametrize("name", ["gunicorn", "scoring"])
def test_an_example_is_copied_whole_into_a_new_folder(name: str, tmp_path: Path) -> None:
    assert init(tmp_path, "--example", name) == 0
    there = {each.name for each in (EXAMPLES / name).iterdir() if each.is_file()}
    assert {each.name for each in (tmp_path / name).iterdir()} == there >= {"evacuation.toml", "README.md"}
    assert init(tmp_path, "--example", name) == REFUSED


def test_an_example_that_there_is_not_is_refused_with_those_that_there_are(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("nope", "../gunicorn", "fleet"):
        assert init(tmp_path, "--example", name) == REFUSED
        assert "one of the examples: gunicorn, scoring" in capfd.readouterr().err
    assert [*tmp_path.iterdir()] == []


def test_the_wheel_has_what_an_example_is_made_of() -> None:
    data = tomllib.loads((EXAMPLES.parent / "pyproject.toml").read_text())["tool"]["setuptools"]["data-files"]
    shipped = {path for patterns in data.values() for pattern in patterns for path in EXAMPLES.parent.glob(pattern)}
    for folder in (path.parent for path in EXAMPLES.glob("*/evacuation.toml")):
        assert {path for path in folder.iterdir() if path.is_file()} <= shipped


@pytest.mark.slow
def test_it_needs_neither_prefect_nor_a_store(house: SmallWorkload, tmp_path: Path) -> None:
    heavy = "('prefect', 'boto3', 'tasks.runtime.context')"
    program = f"import sys; from flows.cli import run; run(sys.argv[1:]); sys.exit(any(map(sys.modules.get, {heavy})))"
    command = [sys.executable, "-c", program, "init", str(house.root), "--output", str(tmp_path / "w.toml")]
    assert subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0
    assert json.dumps(fields_of(tmp_path / "w.toml"))


def test_formats_that_are_not_read_get_a_line_to_answer_by(house: SmallWorkload, tmp_path: Path) -> None:
    (house.root / "models/w.NPZ").touch()
    (house.root / "models/conda.yaml").touch()
    (house.root / "models/own.pkl").touch()
    assert init(house.root, "--output", tmp_path / "w.toml") == 0
    text = (tmp_path / "w.toml").read_text()
    assert '\n# model_formats = [".npz", ".onnx"]\n' in text, "a .pt holds a pickle as a rule"
    answered = text.replace("# model_formats", "model_formats")
    assert "model_formats" not in fields_of(tmp_path / "w.toml")
    (tmp_path / "w.toml").write_text(answered)
    assert fields_of(tmp_path / "w.toml")["model_formats"] == [".npz", ".onnx"]


HUB = """
import socket, time
held = open("zoo/prod/weights v1.npz", "rb")
door = socket.socket(socket.AF_UNIX); door.bind("hub.sock"); door.listen()
time.sleep(600)
"""


@pytest.mark.slow
def test_a_model_that_a_process_has_open_and_a_server_on_a_socket_are_seen(
    serving: SmallWorkload, tmp_path: Path
) -> None:
    """The model was said not to lie there, and the server behind the API's proxy to be a training."""
    for name in ("zoo/prod/weights v1.npz", "zoo/spare.npz", "data/x.npz"):
        (serving.root / name).parent.mkdir(parents=True, exist_ok=True)
        (serving.root / name).touch()
    (serving.root / "hub.py").write_text(HUB)
    hub = serving.start(["venv/bin/python", "hub.py"])
    wait_until((serving.root / "hub.sock").exists, what="its socket")
    shown = typed("init", serving.root, "--output", tmp_path / "w.toml")
    assert shown.returncode == 0
    fields = fields_of(tmp_path / "w.toml")
    assert {"zoo/prod/weights v1.npz", "zoo/spare.npz"} <= taken(tmp_path / "w.toml")
    assert "data/x.npz" not in taken(tmp_path / "w.toml")
    assert "hub" not in fields["training_pattern"]
    assert re.search(rf"process {hub.pid}: .*it listens on \['hub.sock'\] and would be stopped", shown.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kenv", "tools/env 3"])
def test_an_environment_of_any_name_is_known_by_what_runs_from_it(
    house: SmallWorkload, tmp_path: Path, name: str
) -> None:
    (house.root / name).parent.mkdir(exist_ok=True)
    shutil.move(house.root / "venv", house.root / name)
    (house.root / name / "pyvenv.cfg").touch()
    shutil.rmtree(house.root / ".venv")
    house.start([f"{name}/bin/python", "jobs/fit.py"])
    assert typed("init", house.root, "--output", tmp_path / "w.toml").returncode == 0
    fields = fields_of(tmp_path / "w.toml")
    assert fields["interpreter"] == str(house.root / name / "bin/python")
    assert "packages" not in fields.get("may_be_missing", [])


@pytest.mark.slow
def test_an_environment_of_what_only_matches_a_default_and_works_elsewhere_is_not_the_roots(tmp_path: Path) -> None:
    """What ran from it would have been a suspect of a workload that had nothing of it."""
    (elsewhere := tmp_path / "else where/src").mkdir(parents=True)
    (env := tmp_path / "env/bin").mkdir(parents=True)
    (tmp_path / "env/pyvenv.cfg").write_text(f"home = {Path(sys.executable).resolve().parent}\n")
    (env / "python").symlink_to(sys.executable)
    (elsewhere / "train.py").write_text("import time; time.sleep(600)")
    with subprocess.Popen([env / "python", "src/train.py", "--mode", "full"], cwd=elsewhere.parent) as stranger:
        try:
            wait_until(lambda: Path(f"/proc/{stranger.pid}/cmdline").read_bytes(), what="its exec")
            (root := tmp_path / "root").mkdir()
            done = typed("init", root, "--output", tmp_path / "w.toml")
        finally:
            stranger.kill()
    assert done.returncode == 0
    assert "interpreter" not in fields_of(tmp_path / "w.toml")
    assert "it runs code of the workload's environment" not in done.stdout


def test_what_a_containers_mounts_hold_is_counted_and_named_from_its_root(
    house: SmallWorkload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a volume of models not a word was said, and models were let be missing."""
    for folder in ("models", "logs", "weights", "runs", "artifacts", "outputs"):
        shutil.rmtree(house.root / folder)
    volume = tmp_path / "volume"
    for name in ("voices/a/m.onnx", "voices/b/m.onnx", "logs/a.log", "active"):
        (volume / name).parent.mkdir(parents=True, exist_ok=True)
        (volume / name).write_text("1234")
    mounts = (Mount(str(volume), PurePath("/data"), True), Mount(str(house.root), PurePath("/app"), True))
    project = {"com.docker.compose.project": "voice"}

    def box(number: int, **fields: Any) -> Container:
        return Container(ContainerIdentity(str(number), "t"), f"c{number}", "i", "sha256:0", "running", **fields)

    there = (
        box(1, mounts=mounts, labels=project),
        box(2, labels=project),
        box(3, mounts=mounts[:1]),
        box(4, labels={"com.docker.compose.project": "x"}),
    )
    monkeypatch.setattr(Engine, "containers", lambda *_, **__: there)
    monkeypatch.setattr(first_look, "DockerEngine", Engine)
    assert init(house.root, "--output", tmp_path / "w.toml") == 0
    fields, text = fields_of(tmp_path / "w.toml"), (tmp_path / "w.toml").read_text()
    assert fields["models"] == ["/data/voices/**/*.onnx"]
    assert fields["logs"] == ["/data/logs/**/*.log"]
    assert not {"models", "logs", "artifacts"} & {*fields.get("may_be_missing", [])}
    assert re.search(r"/data in c1: .*volume is mounted there: 4 files of 16 bytes: taken are logs = .*models = ", text)
    assert "artifacts: none lie in the root now" in text
    assert "container c2: it is of the compose project voice too, and is not named" in text
    assert re.search(r'container c3: it has .*/volume too.*containers = \["name=c1", "name=c3"\]', text)
    assert "container c4" not in text
