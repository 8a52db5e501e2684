"""Redaction: no value of a secret survives, ordinary text does, and no text makes it slow."""

import re
import shlex
import string
import time

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tasks.custody.evidence import redact as product
from tasks.custody.evidence.redact import redact_environment
from tasks.custody.evidence.words import secret_name
from tests.support.examples import scaled

CANARY = "Zq7canaryX"
HIDDEN = "[redacted]"


def bare(text: str) -> str:
    """Without the code that tells hidden values apart."""
    return re.sub(r"\[redacted:[0-9a-f]{8}\]", HIDDEN, text)


def redact(text: str) -> str:
    return bare(product.redact(text))


def redact_command(command: list[str]) -> list[str]:
    return [bare(word) for word in product.redact_command(command)]


NAMES = (
    "password",
    "DB_PASSWORD",
    "api-key",
    "apikey",
    "AWS_SECRET_ACCESS_KEY",
    "hf.token",
    "Passphrase",
    "private_key",
    "MYSQL_PWD",
    "cookie",
    "signing_key",
)

around = st.text(string.ascii_letters + string.digits + string.punctuation + " \t\n\u3042", max_size=30)
names = st.builds(
    lambda head, name, tail: head + name + tail,
    st.text(string.ascii_letters + "_.-", max_size=4),
    st.sampled_from(NAMES),
    st.text(string.ascii_letters + "_.-", max_size=4),
).filter(lambda name: not re.search("tokeni[sz]e", name, re.IGNORECASE))  # to tokenize is nothing secret
signs = st.sampled_from(["=", ":", ": ", " = ", ":=", " := ", "=>", '": ', "' : ", '\\": \\"', '="', "='"])
pieces = st.lists(
    st.sampled_from(
        [
            *NAMES,
            "--",
            "-",
            "=",
            ":",
            " ",
            "\n",
            '"',
            "'",
            "\\",
            "@",
            "://",
            "/",
            "bearer ",
            "Basic ",
            "https://",
            "?",
            "mysql ",
            "curl ",
            "-p",
            "-u",
            "a",
            "abcdefgh",
            HIDDEN,
            "\x1b[1m",
        ]
    ),
    max_size=14,
).map("".join)


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["train", "--password", "x"], ["train", "--password", HIDDEN]),
        (["train", "--token=x"], ["train", f"--token={HIDDEN}"]),
        (["env", "AWS_SECRET_ACCESS_KEY=x", "train"], ["env", f"AWS_SECRET_ACCESS_KEY={HIDDEN}", "train"]),
        (["train", "--api-key", "x", "--mode", "full"], ["train", "--api-key", HIDDEN, "--mode", "full"]),
        (["train", "--password", "--mode", "full"], ["train", "--password", "--mode", "full"]),
        (["curl", "-H", "Authorization: Bearer abcdef123456"], ["curl", "-H", HIDDEN]),
        (["curl", "https://bob:x@host/path"], ["curl", f"https://{HIDDEN}@host/path"]),
        (["git", "clone", "https://ghp_x@host/a.git"], ["git", "clone", f"https://{HIDDEN}@host/a.git"]),
        (["train", "--tokenis=x"], ["train", f"--tokenis={HIDDEN}"]),
        (["openssl", "-passin", "pass:x"], ["openssl", f"-p{HIDDEN}", HIDDEN]),
        (["sh", "-c", "train --db-password x --mode full"], ["sh", "-c", f"train --db-password {HIDDEN} --mode full"]),
        (["sh", "-c", "PGPASSWORD=x psql"], ["sh", "-c", f"PGPASSWORD={HIDDEN} psql"]),
        ([], []),
    ],
)
def test_secrets_in_command_lines_are_hidden(command: list[str], shown: list[str]) -> None:
    assert redact_command(command) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://:x@cache:6379/0", f"redis://:{HIDDEN}@cache:6379/0"),
        ("postgresql+psycopg://u:p@ss@db/x", f"postgresql+psycopg://u:{HIDDEN}@db/x"),
        ("1http://u:x@h", f"1http://{HIDDEN}@h"),
        ("https://x@host", f"https://{HIDDEN}@host"),
        ("git+HTTPS://x:x-oauth-basic@host/a", f"git+HTTPS://{HIDDEN}@host/a"),
        ("https://u:p?q@host/a", f"https://{HIDDEN}@host/a"),
        ('{"url":"https://host","mail":"a@b"}', '{"url":"https://host","mail":"a@b"}'),
        ("MYSQL_PWD=x mysql", f"MYSQL_PWD={HIDDEN} mysql"),
        ("DB_PASS=x REDIS_PASS='a b'", f"DB_PASS={HIDDEN} REDIS_PASS={HIDDEN}"),
        ("https://host/?token=x", f"https://host/?token={HIDDEN}"),
        ("authorization: BEARER abcdefgh.ijk", f"authorization: BEARER {HIDDEN}"),
        ("+SECRET_KEY = 'a b'", f"+SECRET_KEY = {HIDDEN}"),
        ("-secret_name = x", f"-secret_name = {HIDDEN}"),
        ('"password": "a b", ', f'"password": {HIDDEN} '),
        ("-u [redacted:12345678]:x", f"-u {HIDDEN}"),
    ],
)
def test_secrets_in_text_are_hidden(text: str, shown: str) -> None:
    assert redact(text) == shown


ORDINARY = (
    "python -u src/train.py --dataset builtin --mode full",
    "Filesystem      Size  Used Avail Use% Mounted on\n/dev/vda        252G   11G   79G  12% /",
    "https://example.org:8000/path?a=b",
    "ssh user@host:/srv",
    "ssh://git@host/a postgresql://reader@db/x",
    "https://host/@name https://host?mail=a@b",
    "train --tokenizer gpt2 TOKENIZERS_PARALLELISM=false tokenizer=gpt2 --tokenisation x",
    "PWD=/srv OLDPWD=/tmp compass=3 pass: 3",
    "docker run -p 8000:8000 mysql:8",
    "psql -p 5432 -U reader; uvicorn -p 8000",
    "mysql -p database -u reader",
    "the password was changed",
    "train --tokenizer gpt2 --key-column id --pass-through --keyboard jp --passes 3 --monkey x",
    "sort --key 2 file; sort --key 2,2n --key=3 file",
    "make -p; ssh -p 22 host; nice -n 10 train; python -u src/train.py --passes 3",
    "docker run -p 8000:8000 --user 1000 --user 1000:1000 -u 0:0 image",
    "curl --user-agent x --keepalive-time 3 http://host",
    "git commit -m words --author name",
    "PASS=12 FAIL=0 PUBLIC_KEY=x primary_key=id sort_key=age --user-jwt=false",
    "/srv/keys/pass/tokenizer.json /usr/share/keyrings/a.gpg",
    "KeyError: 'x' SpecStoreBypass: vulnerable foreign_key: id",
    "rsync -av --exclude x host:/srv /srv",
    "key=value keyboard: jp",
    "",
)


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_is_unchanged(text: str) -> None:
    assert redact(text) == text


@given(around, names, signs, around)
def test_a_value_assigned_to_a_secret_looking_name_never_survives(
    before: str, name: str, sign: str, after: str
) -> None:
    assert CANARY not in redact(f"{before} {name}{sign}{CANARY}{after}")


@given(around, names, st.sampled_from(["-", "--"]), st.sampled_from(["", '"', "'"]))
def test_a_value_after_its_option_never_survives(before: str, name: str, dashes: str, quote: str) -> None:
    option = dashes + name.lstrip("-")
    assert CANARY not in redact(f"{before} {option} {quote}{CANARY}{quote}")
    assert CANARY not in "".join(redact_command([before, option, CANARY]))


letters = st.text(string.ascii_lowercase, min_size=1, max_size=6)
programs = letters.map(lambda name: f"/opt/a{name}/a{name}")
values = st.builds(
    lambda head, tail: f"{head}{CANARY}{tail}",
    st.sampled_from(["", "-", "-x", "$", "/", "12"]),
    st.sampled_from(["", "=", "!"]),
)
secret_words = st.sampled_from(["pass", "pwd", "key", "auth", "jwt", "webhook", "password", "token"])


@st.composite
def unlisted(draw: st.DrawFn) -> str:
    """A name that nobody has listed: a word of secrets behind other words, in the ways in which names are made."""
    before, word = draw(letters), draw(secret_words)
    made = [
        f"{before}_{word}",
        f"{before}-{word}",
        f"{before}{word.title()}",
        f"{before}_{word}_2",
        f"{word}",
        f"{before}X{word}",
    ]
    name = draw(st.sampled_from(made))
    return draw(st.sampled_from([name, name.upper()]))


@given(programs, unlisted(), values, st.sampled_from(["--", "-"]))
def test_the_value_of_an_option_that_names_a_secret_is_hidden_whatever_the_program(
    program: str, name: str, value: str, dashes: str
) -> None:
    assume_secret(name)
    option = dashes + name
    for command in ([program, option, value, "file"], [program, f"{option}={value}", "file"]):
        assert CANARY not in "".join(redact_command(command))
        assert redact_command(command)[-1] == "file"
    for text in (f"{program} {option} {value} file", f"{program} {option}='{value}' file"):
        assert CANARY not in redact(text)
        assert redact(text).endswith(" file")


@given(unlisted(), values)
def test_a_variable_or_parameter_that_names_a_secret_is_hidden(name: str, value: str) -> None:
    assume_secret(name)
    assert bare(redact_environment({name: value})[name]) == (redact(value) if name == "PWD" else HIDDEN)
    assert CANARY not in redact(f"https://host/path?a=b&{name}={value}")
    assert CANARY not in redact(f"Endpoint=host;{name}={value};Port=1")
    if name.lower() not in {"key", "pwd"}:  # alone they mean anything
        assert CANARY not in redact(f"{name}={value} train --mode full")
        assert CANARY not in redact(f'{{"{name}": "{value}"}}')


def assume_secret(name: str) -> None:
    """A word drawn before another may turn it into an innocent one: bypass, monkey, public_key."""
    assume(secret_name(name, alone=True))


@given(
    programs,
    st.sampled_from(["-u", "-U", "--user", "--proxy-user", "--http-username", "--login"]),
    letters,
    st.sampled_from(":%"),
    values,
)
def test_what_follows_the_name_in_a_user_option_is_hidden(
    program: str, option: str, name: str, sign: str, value: str
) -> None:
    user = f"{name}{sign}{value}"
    assert redact_command([program, option, user, "file"]) == [program, option, HIDDEN, "file"]
    assert redact(f"{program} {option} {user} file") == f"{program} {option} {HIDDEN} file"


@given(
    letters.map(str.title), values, st.sampled_from(["Authorization", "proxy-authorization", "Cookie", "Set-Cookie"])
)
def test_no_scheme_lets_a_header_through(scheme: str, value: str, header: str) -> None:
    for said in (value, f"{scheme} {value}", f"{scheme} a=b, c={value}", f"a=b; c={value}"):
        assert CANARY not in "".join(redact_command(["send", "-H", f"{header}: {said}", "http://host"]))
        assert CANARY not in redact(f'send -H "{header}: {said}" http://host')
        assert redact(f"send -H '{header}: {said}' http://host").endswith(" http://host")


@pytest.mark.parametrize(
    "command",
    [
        ["curl", "--user", "u:S3"],
        ["curl", "-H", "Authorization: ApiKey S3"],
        ["env", "PASS=S3", "DBPASS=S3", "train"],
        ["train", "--pass", "S3", "--key", "S3"],
        ["docker", "login", "-u", "u", "-p", "S3"],
        ["podman", "login", "-pS3"],
        ["az", "acr", "login", "-p", "S3"],
        ["train", "AccountName=a;AccountKey=S3==;EndpointSuffix=x"],
        ["curl", "https://a.blob/x?sv=2020&sig=S3%3D"],
        ["smbclient", "-U", "u%S3"],
        ["train", "--password", "-S3"],
        ["train", "--password", " S3"],
        ["train", "--key", "2 S3"],
        ["openssl", "enc", "-k", "S3"],
        ["zip", "-P", "S3", "a.zip"],
        ["7z", "a", "-pS3", "a.7z"],
        ["http", "-a", "u:S3"],
    ],
)
def test_secrets_that_were_once_let_through_are_hidden(command: list[str]) -> None:
    told = [word.replace("S3", CANARY) for word in command]
    assert CANARY not in "".join(redact_command(told))
    assert CANARY not in redact(shlex.join(told))


@pytest.mark.parametrize(
    "name", ["DBPASS", "PASS", "JWT", "MASTER_KEY", "SSH_KEY", "SLACK_WEBHOOK", "SLACK_WEBHOOK_URL", "KEY"]
)
def test_variables_that_were_once_let_through_are_hidden(name: str) -> None:
    assert bare(redact_environment({name: CANARY})[name]) == HIDDEN


@given(pieces | around)
@example('cookie=password"mysql ')
@example("-u=password=password")
@example("passwordbearer https://passwordDB_PASSWORD")
@example("-u=[redacted:12345678]:password")
@example("\\0000A^")
def test_redacting_twice_is_redacting_once(text: str) -> None:
    assert product.redact(product.redact(text)) == product.redact(text)


@given(st.lists(pieces | around, max_size=5))
def test_no_word_of_a_command_is_lost(command: list[str]) -> None:
    assert len(redact_command(command)) == len(command)


def test_variables_are_hidden_but_those_of_a_short_list_which_are_looked_into() -> None:
    shown = redact_environment(
        {
            "HOME": "/root",
            "HF_TOKEN": CANARY,
            "odd secret!": CANARY,
            "DATABASE": f"pg://u:{CANARY}@h",
            "MODEL_PATH": f"s3://u:{CANARY}@h/model",
            "EMPTY_TOKEN": "",
        }
    )
    assert CANARY not in str(shown)
    assert shown["HOME"] == "/root"
    assert bare(shown["DATABASE"]) == HIDDEN
    assert bare(shown["MODEL_PATH"]) == f"s3://u:{HIDDEN}@h/model"
    assert list(shown) == sorted(shown)


@pytest.mark.sample(8)
@pytest.mark.parametrize(
    "text",
    [
        "a" * 200_000,
        "token" * 40_000,
        "--token" * 30_000,
        "token " * 40_000,
        "token=" * 40_000,
        "token" + " " * 200_000,
        "token='" * 40_000,
        "token=" + "\"'" * 100_000,
        "://" * 70_000,
        "://a:" * 40_000,
        "://:" + "a@" * 100_000,
        "bearer " * 40_000,
        "bearer" + " " * 200_000,
        "basic basic " + "a" * 200_000,
        "https://" * 25_000,
        "https://" + "a@" * 100_000,
        "https://" + "a" * 200_000,
        "https:" * 30_000,
        "mysql " * 40_000,
        "mysql -p" * 25_000,
        "mysql " + "-p" * 100_000,
        "curl " + "-u '" * 50_000,
        "redis-cli -a " + "'\"" * 100_000,
        "mongo" * 40_000,
        "_pwd-pass" * 20_000,
        "--user a:" * 20_000,
        "--user=" * 30_000,
        "--pass 1 " * 20_000,
        "--key=" * 30_000,
        "aBcD" * 50_000,
        "&sig=" * 40_000,
        "Authorization: " * 13_000,
        "cookie" * 30_000,
        "-u" + "%" * 200_000,
        "--user 'a" * 20_000,
        "[" * 200_000,
        "[1," * 60_000,
        "[" + "1," * 100_000,
        "[ " + " " * 200_000,
        "\x1b[" * 100_000,
        "\x1b[" + "1;" * 100_000,
        "\x1b[1mtoken=" * 15_000,
        "\\" * 200_000,
        "\\e[" * 60_000,
        '\\"token=' * 20_000,
        '"token=\\' * 20_000,
        "\"'token=" * 20_000,
        "\\'pass=1 " * 20_000,
        "'token=a'b" * 16_000,
        "password:\n" * 20_000,
        "password: (\n" * 15_000,
        "pass: [" * 30_000,
        "pass=(" + "(" * 200_000,
        "token\n  a\n" * 18_000,
        "  " * 20_000 + "token" + "\n  " * 60_000,
        "- name: TOKEN\n" * 14_000,
        "[token]\n" * 25_000,
        "token: &" + "a" * 200_000,
        "パスワード" * 40_000,
        "ｔｏｋｅｎ：" * 30_000,
        "token " + "a:" * 100_000,
        "mysql -pa" * 20_000,
        'argc=1 a0="' * 18_000,
        "proctitle=" + "6D" * 100_000,
        "Environment=" + "a" * 200_000,
        "Environment=" + "a b=" * 50_000,
    ],
    ids=lambda text: text[:8],
)
def test_no_hostile_text_makes_redaction_slow(text: str) -> None:
    # A command line may be 128 KiB and more; a quadratic pattern would take minutes for it, and sixteen times as long
    # for four times the text. The best of three, because other tests share the processors and their caches.
    text = text[: scaled(len(text))]
    spent = seconds_of_redacting(text)
    if spent >= 1:
        spent = min(spent, *(seconds_of_redacting(text) for _ in range(2)))
        assert spent < 8 * seconds_of_redacting(text[: len(text) // 4])


def seconds_of_redacting(text: str) -> float:
    began = time.process_time()
    redact(text)
    redact_command([text, text])
    redact_environment({text: text})
    return time.process_time() - began
