"""What is not known to be harmless is hidden: 300 forms of secrets, of which none is shown, and 300 ordinary lines.

The forms are drawn by a generator with a fixed seed from kinds of values and ways to hand them over, so that no form is
one that the code names.
"""

import base64
import json
import random
import re
import shlex
import string
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.custody.containment.identity import Identity
from tasks.custody.evidence import redact as redaction
from tasks.custody.evidence.redact import redact, redact_command, redact_environment, redact_fields
from tasks.host.judgement.suspect import excuse_for, line_for
from tasks.host.process.process import Process
from tasks.system.redaction import redact_for

FORMS = 300
SEED = 33
READABLE = 0.9
Draw = random.Random


def alphabet(letters: str, least: int, most: int) -> Callable[[Draw], str]:
    return lambda draw: "".join(draw.choice(letters) for _ in range(draw.randint(least, most)))


letters = string.ascii_letters + string.digits
mixed = alphabet(letters, 16, 40)
MAKERS = (
    "hf_",
    "ghp_",
    "glpat-",
    "pnu_",
    "pnb_",
    "sk-proj-",
    "xoxb-",
    "dop_v1_",
    "npm_",
    "AKIA",
    "r8_",
    "nvapi-",
    "wx.",
)
SECRETS: Mapping[str, Callable[[Draw], str]] = {
    "random": mixed,
    "hexadecimal": alphabet("0123456789abcdef", 32, 64),
    "base32": alphabet("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16, 32),
    "base64": lambda draw: base64.b64encode(draw.randbytes(draw.randint(15, 48))).decode(),
    "of a maker": lambda draw: draw.choice(MAKERS) + mixed(draw),
    "as rules ask for": lambda draw: (
        f"{draw.choice(['Summer', 'Dragon', 'Monkey'])}{draw.randint(10, 9999)}{draw.choice('!@#$%^&*')}"
    ),
    "uuid": lambda draw: "-".join(alphabet("0123456789abcdef", n, n)(draw) for n in (8, 4, 4, 4, 12)),
    "jwt": lambda draw: ".".join(f"eyJ{mixed(draw)}" for _ in range(3)),
    "words": lambda draw: "-".join(draw.sample(["correct", "horse", "battery", "staple", "hunter", "letmein"], 3)),
}
PROGRAMS = (
    "train",
    "/opt/x/bin/loader",
    "python -m sync",
    "curl",
    "mysql",
    "docker",
    "vault",
    "./push.sh",
    "mc",
    "java -jar a.jar",
)
NAMES = (
    "password",
    "db-password",
    "token",
    "api_key",
    "secret",
    "auth",
    "pw",
    "credential",
    "x",
    "pat",
    "sas",
    "pass-phrase",
)
VARIABLES = (
    "FOO_TOKEN",
    "DB_PASS",
    "X",
    "MLFLOW_TRACKING_PASSWORD",
    "WANDB",
    "KEY",
    "CONNECTION",
    "PYTHON_KEYRING",
    "CUDA_TOKEN",
    "SENTRY_DSN",
)
WAYS: Mapping[str, Callable[[Draw, str], list[str]]] = {
    "userinfo": lambda draw, it: [
        f"{draw.choice(['https', 'redis', 'postgresql', 'odd'])}://{draw.choice(['', 'bob'])}:{it}@db.internal:5432/x"
    ],
    "user alone in a URL": lambda _, it: [f"https://{it}@host.example/a.git"],
    "path of a URL": lambda _, it: [f"https://hooks.example.com/services/{it}"],
    "query": lambda draw, it: [f"https://h.example/a?{draw.choice(['token', 'sig', 'q'])}={it}&b=1"],
    "host of a URL": lambda draw, it: [f"{draw.choice(['slack', 'tgram', 'x'])}://{it}/channel"],
    "short option": lambda draw, it: [f"-{draw.choice('pPauwkts')}", it],
    "attached": lambda draw, it: [f"-{draw.choice('pPauwk')}{it}"],
    "long option": lambda draw, it: [f"--{draw.choice(NAMES)}", it],
    "long option and sign": lambda draw, it: [f"--{draw.choice(NAMES)}={it}"],
    "one dash": lambda draw, it: [f"-{draw.choice(NAMES)}={it}"],
    "variable": lambda draw, it: [f"{draw.choice(VARIABLES)}={it}", "train"],
    "defined": lambda draw, it: [f"-D{draw.choice(['db.password', 'x.y'])}={it}"],
    "bearer": lambda draw, it: ["-H", f"Authorization: {draw.choice(['Bearer', 'Basic', 'ApiKey', 'token'])} {it}"],
    "header": lambda draw, it: ["--header", f"{draw.choice(['X-Api-Key', 'PRIVATE-TOKEN', 'Odd'])}: {it}"],
    "cookie": lambda _, it: ["-b", f"session={it}; theme=dark"],
    "user": lambda draw, it: [draw.choice(["-u", "--user", "--proxy-user"]), f"bob:{it}"],
    "bare": lambda _, it: [it],
    "after a subcommand": lambda _, it: ["login", "bob", it],
    "json": lambda draw, it: ["--params", json.dumps({draw.choice(NAMES): it, "lr": 0.1})],
    "bare json": lambda _, it: [json.dumps({"a": {"b": [it]}}, separators=(",", ":"))],
    "dsn": lambda _, it: [f"host=db user=bob password={it} dbname=x"],
    "connection string": lambda _, it: [f"Server=db;AccountKey={it};Port=1"],
    "shell": lambda draw, it: [
        *("sh", "-c"),
        f"{draw.choice(['export A=', 'mysql -p', 'login ', 'x --key '])}{shlex.quote(it)} && train --mode full",
    ],
    "shell in a shell": lambda _, it: ["bash", "-lc", f"bash -c {shlex.quote('echo ' + shlex.quote(it))} | tee o.log"],
    "here document": lambda _, it: ["bash", "-c", f"cat <<EOF > /etc/x\n{it}\nEOF"],
    "substitution": lambda _, it: ["sh", "-c", f'P="$(echo {shlex.quote(it)})" train'],
    "code": lambda _, it: ["python", "-c", f"connect('db', {it!r})"],
    "pem": lambda _, it: ["--key", f"-----BEGIN PRIVATE KEY-----\n{it}\n-----END PRIVATE KEY-----"],
    "in a name of a file": lambda draw, it: [
        draw.choice(["/srv/{}.json", "conf-{}.yaml", "--out=/srv/{}/model.joblib", "/run/secrets/{}"]).format(it)
    ],
    "host": lambda draw, it: [draw.choice(["--host", "--bind"]), f"{it}:8000"],
    "list": lambda _, it: ["--hosts", f"db,redis,{it}"],
    "an option's name": lambda _, it: [f"--{it}"],
    "hydra": lambda draw, it: [f"+logger.wandb.{draw.choice(['key', 'x'])}={it}"],
}  # fmt: skip


def forms(draw: Draw) -> list[tuple[str, list[str], str]]:
    """Kind, command line and secret, each way as often as another."""
    found = []
    for number in range(FORMS):
        way = [*WAYS][number % len(WAYS)]
        # Options and hosts are shown: a word of a language in their place is one.
        kind = draw.choice([kind for kind in SECRETS if kind != "words" or way not in {"host", "an option's name"}])
        secret = SECRETS[kind](draw)
        found.append((f"{way}, {kind}", [*draw.choice(PROGRAMS).split(), *WAYS[way](draw, secret)], secret))
    return found


def shows(text: str, secret: str) -> bool:
    """Whether the secret, or a half of it, stands in the text."""
    half = len(secret) // 2
    return any(part in text for part in (secret[:half], secret[-half:]))


CASES = forms(Draw(SEED))


@pytest.mark.parametrize("way", WAYS)
def test_no_secret_of_a_command_line_is_shown(way: str) -> None:
    mine = [each for each in CASES if each[0].partition(", ")[0] == way]
    assert len(mine) >= FORMS // len(WAYS)
    for kind, command, secret in mine:
        assert not shows("\n".join(redact_command(command)), secret), kind


@pytest.mark.parametrize("kind", [kind for kind in SECRETS if kind != "words"])
def test_no_secret_that_looks_drawn_is_shown_in_a_log_a_summary_or_an_environment(kind: str) -> None:
    draw = Draw(SEED)
    for _ in range(FORMS // len(SECRETS)):
        secret = SECRETS[kind](draw)
        for line in (
            f"2026-01-02 12:00:00,123 INFO client: connected with {secret} in 0.3 s",
            f'  File "src/train.py", line 12, in connect\n    Client("{secret}")\nValueError: bad key {secret!r}',
            f"{{'a': '{secret}', 'n': 1}}",
            f"INFO [{secret}] (x={secret}) <{secret}>",
        ):
            assert not shows(redact(line), secret), line
        assert not shows(
            str(redact_fields({"run": {"api_key": secret, "a": [secret], "note": f"by {secret}"}})), secret
        )
        for name in VARIABLES:
            assert not shows(str(redact_environment({name: secret})), secret), name


@given(st.text(string.ascii_lowercase, min_size=4, max_size=12), st.sampled_from(["password", "api_key", "db-token"]))
def test_a_word_behind_the_name_of_a_secret_is_hidden_in_a_text_too(word: str, name: str) -> None:
    secret = f"x{word}"
    for text in (
        f"{name}={secret} done",
        f"{name} '{secret}' done",
        f'"{name}": "{secret}"',
        f"--{name} {secret} done",
    ):
        assert not re.search(rf"\b{secret}\b", redact(text)), text
    assert redact(f"a wrong {name} {secret}99 was given").endswith("] was given")
    assert redact_fields({name: secret, "mode": "full"})["mode"] == "full"
    assert redact_fields({name: secret})[name] != secret


@pytest.mark.parametrize(
    "line",
    [
        "ExecStart=/usr/bin/python train.py --x {0} --mode full",
        "ExecStart={{ path=/usr/bin/python ; argv[]=/usr/bin/python train.py {0} --mode full ; pid=12 }}",
        'Environment=DB={0} "PW=battery {0}" PYTHONPATH=/srv/app',
        "host sudo[9]: bob : TTY=pts/0 ; PWD=/srv ; USER=root ; COMMAND=/usr/bin/mysql -p{0} db",
        '{{"_CMDLINE":"python train.py --password {0} {0}","MESSAGE":"done","_PID":"1"}}',
    ],
)
def test_command_lines_and_environments_in_what_systemd_tells_are_judged_as_such(line: str) -> None:
    shown = redact(line.format("zorkmid"))
    assert "zorkmid" not in shown
    assert [word for word in ("full", "PYTHONPATH=/srv/app", "db", '"MESSAGE":"done"') if shown.count(word)]


# {0} is a word of a list, {1} a number; what a list has is no list of the code's.
ORDINARY = """
    torchrun --nproc_per_node={1} --nnodes 2 --node_rank 0 --master_addr 10.0.0.5 --master_port 29500 {0}.py --lr 3e-4
    torchrun --standalone --nproc-per-node {1} finetune_{0}.py --config configs/{0}.yaml --bf16 true --epochs {1}
    uvicorn app:app --host 0.0.0.0 --port 8000
    uvicorn {0}.main:create_app --factory --workers {1} --log-level info --reload
    /srv/{0}/venv/bin/uvicorn api.app:app --host 0.0.0.0 --port 80{1} --workers 2
    gunicorn -w {1} -k uvicorn.workers.UvicornWorker -b 0.0.0.0:8000 --timeout 120 {0}.main:app
    gunicorn --bind unix:/run/gunicorn.sock --access-logfile - --threads {1} {0}.wsgi:application
    accelerate launch --mixed_precision bf16 --num_processes {1} run_{0}.py --dataset_name {0} --do_train --seed {1}
    python -m torch.distributed.run --nproc_per_node {1} train_{0}.py --epochs 10 --batch-size 64
    python3 -u src/train.py --dataset {0} --mode full --max-iter {1}00
    python -m {0}.train --config config/base.yaml --seed 42 --lr 0.00{1}
    mlflow server --backend-store-uri sqlite:///mlflow.db --host 0.0.0.0 --port 50{1}
    mlflow models serve -m models/{0} -p 5001 --no-conda --workers {1}
    date -u +%Y%m%d
    bash train.sh --fast {1}
    bash scripts/{0}.sh --epochs {1} --dry-run
    bash -c "cd /tmp && python {0}.py --epochs {1} > train.log 2>&1"
    sh -c "while true; do python src/train.py; sleep {1}; done"
    nice -n 1{1} python {0}.py --jobs -1
    taskset -c 0-1{1} python train.py --threads 16
    env CUDA_VISIBLE_DEVICES=0,{1} OMP_NUM_THREADS=8 python {0}.py
    nohup ./run_{0}.sh
    java -Xmx{1}g -jar {0}.jar --server.port=8080
    celery -A {0}.tasks worker --loglevel=info --concurrency={1} -Q default
    jupyter lab --ip=0.0.0.0 --port=88{1} --no-browser
    tensorboard --logdir runs --port 60{1} --bind_all
    ray start --head --port=63{1} --dashboard-host=0.0.0.0
    streamlit run {0}.py --server.port 85{1}
    docker run --rm --gpus all -p 80{1}:8000 pytorch/pytorch:latest python train.py
    timeout {1}00 python {0}.py --checkpoint checkpoints/last.pt
    python train.py model.lr=0.0{1} data.batch_size=32 trainer.max_epochs=10 +experiment={0}
    python -m joblib.externals.loky.backend.popen_loky_posix --process-name LokyProcess-{1} --pipe 12
    nginx: worker process
    redis-server 127.0.0.1:63{1}
""".strip().splitlines()  # fmt: skip
NAMES_OF_WORK = (
    "resnet50",
    "adult",
    "churn",
    "baseline",
    "portfolio",
    "credit_risk",
    "llama2_7b",
    "evaluate",
    "bert",
    "fraud",
)


def test_of_ordinary_command_lines_nine_words_of_ten_are_readable() -> None:
    draw = Draw(SEED)
    shown = hidden = 0
    for number in range(FORMS):
        line = ORDINARY[number % len(ORDINARY)].strip().format(draw.choice(NAMES_OF_WORK), draw.randint(1, 9))
        words = redact_command(shlex.split(line))
        hidden += " ".join(words).count("[redacted:")
        shown += len(" ".join(words).split()) - " ".join(words).count("[redacted:")
    assert shown / (shown + hidden) >= READABLE, f"{shown} of {shown + hidden}"
    assert redact_command(["date", "-u", "+%Y%m%d"]) == ["date", "-u", "+%Y%m%d"]


@pytest.mark.parametrize(
    "line",
    [
        "while :; do python src/train.py; sleep 1; done",
        "until false; do python src/train.py; done",
        "while true ; do python src/train.py || break ; done",
        "for i in 1 2 3; do python src/train.py && continue; done",
        "trap : INT; if test -f x; then python src/train.py; else python src/eval.py; fi",
        "case 1 in 1) python src/train.py ;; esac",
    ],
)
def test_the_words_and_signs_of_a_shell_are_shown(line: str) -> None:
    """Nobody could tell which loop it was."""
    assert redact_command(["sh", "-c", line]) == ["sh", "-c", line]
    assert redact_command(["watch", "-n", "5", line])[3] == line


def test_what_a_loop_waits_for_and_what_is_to_be_made_stay_hidden() -> None:
    for line in ("while Zq7canary; do sleep 1; done", "until :Zq7canary; do :; done", "case Zq7canary in x) :;; esac"):
        assert "canary" not in " ".join(redact_command(["sh", "-c", line]))
    assert "canary" not in " ".join(redact_command(["make", "-s", "Zq7canary", ";", ":"]))


def test_what_names_a_file_that_exists_is_shown_and_no_other_name(tmp_path: Path) -> None:
    (tmp_path / "Zq7canaryX").touch()
    there, gone = str(tmp_path / "Zq7canaryX"), str(tmp_path / "Zq7canaryY")
    assert redact_command(["loader", there, f"--in={there}"]) == ["loader", there, f"--in={there}"]
    assert redact_command(["loader", "Zq7canaryX"], str(tmp_path)) == ["loader", "Zq7canaryX"]
    assert "canary" not in "".join(redact_command(["loader", "Zq7canaryX", "x/../Zq7canaryX"]))
    assert gone not in "".join(redact_command(["loader", gone, f"--in={gone}"], str(tmp_path)))


def test_a_file_whose_name_has_a_blank_is_shown_as_one_word(tmp_path: Path) -> None:
    program = tmp_path / "Zq7canaryX of ours/Kx9 python"
    program.parent.mkdir()
    program.touch()
    command = [str(program), "loader", f"--in={program}"]
    assert redact_command(command) == command
    program.unlink()
    assert not any("Kx9" in word for word in redact_command(command))


@pytest.fixture
def salted() -> Iterator[None]:
    """What is set for this process is set back."""
    before = redaction._Known.salt, redaction._Known.public, redaction._Known.own
    yield
    redaction._Known.salt, redaction._Known.public, redaction._Known.own = before


@pytest.mark.usefixtures("salted")
def test_a_value_has_one_code_within_an_incident_and_another_beside_it(tmp_path: Path) -> None:
    def code(home: Path) -> str:
        redact_for(home / "salt", ())
        first: str
        (first,) = set(
            re.findall(r"\[redacted:[0-9a-f]{8}\]", "".join(redact_command(["x", "--token", "Zq7", "-p", "Zq7"])))
        )
        assert redact_environment({"A": "Zq7"}) == {"A": first}
        assert redact("token='Zq7'") == f"token={first}"
        return first

    for name in ("one", "two"):
        (tmp_path / name).mkdir(mode=0o700)
    codes = [code(tmp_path / name) for name in ("one", "two", "one")]
    assert codes[0] == codes[2] != codes[1]
    assert (tmp_path / "one/salt").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "one/salt").read_bytes() != (tmp_path / "two/salt").read_bytes()
    assert redact_command(["x", "--token", codes[0]]) == ["x", "--token", codes[0]]


@pytest.mark.usefixtures("salted")
def test_a_salt_that_others_may_have_written_is_not_used_and_none_is_needed(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "open/salt").write_bytes(bytes(32))
    redaction.redact_with(bytes(32))
    known = redact("token=Zq7")
    redaction.redact_with(b"another")
    for place in ("open/salt", "missing/salt"):
        redact_for(tmp_path / place, ())
        assert redact("token=Zq7") != known


@pytest.mark.usefixtures("salted")
def test_what_the_patterns_of_the_block_spell_is_shown_and_what_they_only_pass_over_is_not() -> None:
    command = ["uvicorn", "--x", "Zq7canaryX", "--reload-dir", "zorkmid", "quux:app"]
    hidden = redact_command(command)
    redaction.redact_with(b"", [r"uvicorn .*zorkmid .*quux:app\b"])
    assert redact_command(command) == [*command[:2], hidden[2], *command[3:]]


FIELDS = ("git_commit", "commit", "GIT_COMMIT", "gitCommit", "git-sha", "model.revision", "commit_sha", "git_describe")
HASHES = st.text("0123456789abcdef", min_size=7, max_size=40)


@given(st.sampled_from(FIELDS), HASHES)
def test_a_commit_is_shown_by_its_field_and_by_nothing_else(field: str, commit: str) -> None:
    """Alone it catches the short hashes of git that look drawn at random, which three of five do."""
    for text in (f"{field}: {commit}", f"{field}={commit}-dirty", f'{{"{field}": "{commit}"}}', f"commit {commit}\n"):
        assert redact(text) == text
    assert redact_fields({field: commit}) == {field: commit}
    assert redact_environment({field: commit}) == {field: commit}
    command = ["train", f"--{field}", commit, f"--{field}={commit}"]
    assert redact_command(command) == command
    for name in ("token", f"{field}_token", f"secret_{field}"):
        assert commit not in redact(f"{name}: {commit}")
        assert commit not in str([redact_fields({name: commit}), redact_environment({name: commit})])
    for text in (f"{field}: Zq7{commit}x", f"{field}: {commit}Zq7"):
        assert "[redacted:" in redact(text)


@pytest.mark.usefixtures("salted")
def test_the_incidents_own_id_and_reason_are_shown() -> None:
    """Alone it catches what everybody looks for in a log of the night: it is in `incident.json` as it was typed."""
    incident, reason = "IR-20261204T221843Z-gpu07x9a", "node n7x9q2b3 burned (OPS-4411/ab12cd34x), by tanaka"
    text = f"{incident} opened: {reason}; key Zq7canaryX1"
    command = ["evacuation", "run", "w.toml", "--reason", reason, f"--incident={incident}", "--x", "Zq7canaryX1"]
    assert "n7x9q2b3" not in redact(text)
    redaction.redact_with(b"", (), (incident, reason))
    assert redact(text).startswith(f"{incident} opened: {reason}; key [redacted:")
    assert redact_command(command)[:-1] == command[:-1]
    assert redact_command(command)[-1].startswith("[redacted:")
    assert redact_environment({"TICKET": incident}) == {"TICKET": incident}
    assert "n7x9q2b3" not in redact("password=n7x9q2b3 --token n7x9q2b3")


@given(st.sampled_from(CASES), st.sampled_from(["python", "bash", "uvicorn", "node"]))
def test_a_line_to_paste_has_no_secret_and_matches_no_other_program(
    case: tuple[str, list[str], str], program: str
) -> None:
    _, command, secret = case
    process = Process(Identity(41, 1), 1, "S", (program, *command[1:]))
    others = [(program,), (program, "other"), (program, "-u", "other.py"), (program, "-x", "--other=1")]
    lines = (excuse_for(process), line_for(process, "training_pattern", "src/train"))
    for line in lines:
        assert not shows(line, secret)
        for pattern in re.findall(r"\^.*(?='\]?$)", line):
            assert re.search(pattern, process.line)
            assert not [other for other in others if re.search(pattern, " ".join(other)) and other != process.command]
