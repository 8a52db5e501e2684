"""Of what nobody named only what is known to be public is kept, whatever shape a secret in it has."""

import gzip
import io
import tarfile
import time

import pytest

from tasks.custody.evidence.public_text import MOST_READ, why_private

CANARY = "Zq7canary!2026"
KEY = "81HqDtbqAywKSOumSha3BhWNOdQ26slT6K0YaZeZyPs="
HEX = "9f8e7d6c5b4a39281706f5e4d3c2b1a0"
PRIVATE = {
    ".bash_history": f"mysql -u root -p{CANARY} db\n",
    "login.sh": f"sshpass -p '{CANARY}' ssh host\n",
    "config.json": '{"auths":{"ghcr.io":{"auth":"Ym9iOlpxN2NhbmFyeTIwMjY="}}}',
    "config": "client-key-data: LS0tLS1CRUdJTiBSU0EgUFJJVkFURSBLRVktLS0tLQo=\n",
    "netrc": f"machine x login bob password {CANARY}\n",
    "db.yaml": f"db:\n  password:\n    {CANARY}\n",
    "salt.yaml": f"licence: {HEX}\n",
    "labelled.yaml": f"password: md5:{HEX}\n",
    "settings.xml": f"<db><password>{CANARY}</password></db>\n",
    "init.sql": f"CREATE USER bob IDENTIFIED BY '{CANARY}';\n",
    "explore.ipynb": f'{{"cells":[{{"source":["connect(\\"bob\\", \\"{CANARY}\\")"]}}]}}',
    "deploy.ppk": "PuTTY-User-Key-File-2: ssh-rsa\nPrivate-Lines: 1\nAAAA\n",
    "airflow.cfg": f"fernet_key = {KEY}\n",
    "requirements.txt": f"--extra-index-url https://bob:{CANARY}@pypi.example.org/simple\nnumpy\n",
    "note.txt": f"ask for {CANARY}\0",
}
PRIVATE_CODE = [
    f'connect("db", "bob", "{CANARY}")\n',
    f'os.environ["DB_PASSWORD"] = "{CANARY}"\n',
    f'password: str = "{CANARY}"\n',
    f"password = (\n    '{CANARY}'\n)\n",
    f'os.environ.get("DB_PASSWORD", "{CANARY}")\n',
    f"run(\"mysql -u root -p'{CANARY}' db\")\n",
    f"q = \"CREATE USER bob IDENTIFIED BY '{CANARY}'\"\n",
    f"const password = `{CANARY}`\n",
    f'Fernet(b"{KEY}")\n',
    f'wandb.login(key="{HEX}")\n',
    f'"""Connect.\n\npassword: {CANARY}\n"""\n',
    f'LICENCE = """{HEX}"""\n',
    f"CONFIG = '''\nlicence: {HEX}\n'''\n",
    f'load(\n    """\n    licence: {HEX}\n    """\n)\n',
    f"const config = yaml`\nlicence: {HEX}\n`\n",
]
PUBLIC = {
    "train.yaml": "model: resnet50\nlr: 1e-4\nseed: 42\nname: facebook/opt-6.7b\nout: models/best.joblib\n",
    "requirements.txt": f"s3transfer==0.19.3 \\\n    --hash=sha256:{HEX}{HEX}\nscikit-learn>=1.5,<2\n",
    "uv.lock": f'url = "https://files.pythonhosted.org/packages/1a/{HEX}/x-1.whl", hash = "sha256:{HEX}{HEX}"\n',
    "Makefile": 'train:\n\tpython src/train.py | tee "logs/$$(date -u +%Y%m%d_%H%M%S).log"\n',
    "Dockerfile": 'FROM python:3.12-slim\nWORKDIR /app\nCOPY . .\nCMD ["uvicorn", "api.app:app"]\n',
    "README.md": "# 学習\n\nRun `make train`.\n",
    "empty": "",
}
PUBLIC_CODE = [
    "from sklearn.model_selection import HalvingGridSearchCV\nsearch = HalvingGridSearchCV(model)\n",
    "def login(user, password):\n    return connect(user=user, password=password)\n",
    'token = request.headers["Authorization"]\nuser = UserInDB2Schema(token)\n',
    '"""Use LBFGS2Solver of X25519PrivateKeyLoader."""\nPATH = "models/best.joblib"\n',
    'def fit() -> None:\n    """Use LBFGS2Solver.\n\n    It has X25519PrivateKeyLoader.\n    """\n',
]
PIECES = (
    *('"', "'", '\\"', "\"'", "+%Y", "sha256:", "a==1", "(", "_1"),
    *("`", '"1', "a", "1\n", " ", "Environment=", '="""', "=`"),
)


@pytest.mark.parametrize("name", PRIVATE)
def test_a_secret_of_whatever_shape_keeps_its_file_out(name: str) -> None:
    why = why_private(name, PRIVATE[name].encode())
    assert why
    assert not [each for each in (CANARY, KEY, HEX) if each in why]


@pytest.mark.parametrize("text", PRIVATE_CODE)
@pytest.mark.parametrize("name", ["conf.py", "a/conf.PY", "conf.ts", "conf.go", "conf"])
def test_so_it_does_in_code(name: str, text: str) -> None:
    assert why_private(name, f"import os\n{text}".encode())


def test_the_line_is_told() -> None:
    assert why_private("x.yaml", f"a: 1\nb: {CANARY}\n".encode()) == "not known to be public, line 2"
    assert why_private("x.py", f"a = 1\n\nb = f('{CANARY}')\n".encode()) == "not known to be public, line 3"
    assert why_private("x.py", f'a = """\nb\n{HEX}\n"""\n'.encode()) == "not known to be public, line 3"


@pytest.mark.parametrize("name", PUBLIC)
def test_ordinary_files_are_kept(name: str) -> None:
    assert why_private(name, PUBLIC[name].encode()) == ""


@pytest.mark.parametrize("text", PUBLIC_CODE)
def test_ordinary_code_is_kept(text: str) -> None:
    assert why_private("src/train.py", text.encode()) == ""


def packed(text: bytes) -> bytes:
    out, info = io.BytesIO(), tarfile.TarInfo(".env")
    info.size = len(text)
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        tar.addfile(info, io.BytesIO(text))
    return out.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(b"harmless\n"),
        packed(b"harmless\n"),
        "harmless\n".encode("utf-16"),
        "harmless\n".encode("utf-16-le"),
        "学習\n".encode("cp932"),
        b"harmless\n" * (MOST_READ // 9 + 1),
        b"harmless " * 8000,
    ],
    ids=["gzip", "tar", "utf-16", "utf-16 without its mark", "cp932", "large", "one line"],
)
@pytest.mark.parametrize("name", ["notes.txt", "train.py"])
def test_what_was_not_searched_as_a_whole_is_not_known(name: str, data: bytes) -> None:
    assert why_private(name, data).startswith(("not searched", "not known"))


@pytest.mark.slow
@pytest.mark.sample(8)
@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("name", ["x.py", "x"])
def test_hostile_text_costs_linear_time(name: str, piece: str) -> None:
    def seconds(count: int) -> float:
        began = time.process_time()
        line = piece.encode() * (60_000 // len(piece)) + b'"\n'
        why_private(name, b'x = "' + KEY.encode() + b'"\n"' + line * count)
        return time.process_time() - began

    seconds(1)
    assert seconds(8) < 20 * max(seconds(1), 0.02)
