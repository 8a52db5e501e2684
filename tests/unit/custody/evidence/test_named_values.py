"""What the name of a secret announces is hidden, wherever it stands; what only sounds so leaves its line alone."""

import json
import re
import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tasks.custody.evidence.redact import redact, redact_fields
from tasks.custody.evidence.words import TALK, WORDS, all_natural, secret_name

CANARY = "zonnebloem"
NAMES = ("password", "DB_PASSWORD", "apiSecret", "hf.token", "api_key", "passphrase", "credentials", "DbPasswords")
FORMS = r'''
{0}: |\n  {1} {1}\n  {1}
{0}: >-\n  {1}
{0}: &anchor {1}
{0}: !kept {1}
{0}: !kept |\n  {1}
{0}:\n  - {1}\n  - {1}
{0}:\n- {1}\n- {1}
{0}:\n    value: {1}\n    other: {1}
{0} = (\n    "{1}"\n    "{1}"\n)
{0} = [\n"{1}",\n"{1}"\n]
{0} = """\n{1}\n{1}\n"""
{{"{0}": {{"value": "{1}"}}}}
{{"{0}": ["{1}", "{1}"]}}
{{"name": "{0}", "value": "{1}"}}
"name": "{0}",\n"value": "{1}"
- name: {0}\n  value: {1}
key={0}/value={1}
<{0}>{1}</{0}>
<{0} kind="x">{1}
<add key="{0}" value="{1}"/>
machine host login bob {0} {1}
| {0} | {1} |
{0}: {1} {1}
{0} for user bob: {1}
the {0} of bob, "{1}", is wrong
wrong {0} {1}: expired
[{0}]\nlicence = {1}\nother = {1}
+{0}:\n+  {1}
-  {0}: |\n-    {1}
{0}：{1}
loader --{0} \\\n  {1}
'''.strip().splitlines()


@pytest.mark.parametrize("form", FORMS)
def test_no_form_shows_what_a_name_announces_and_what_stands_around_it_is_shown(form: str) -> None:
    for name in NAMES:
        text = form.encode().decode("unicode_escape" if form.isascii() else "utf-8").format(name, CANARY)
        shown = redact(f"epoch 3 of zork\n\n{text}\n[zork]\nepoch 4 of zork")
        assert CANARY not in shown, shown
        assert name in shown
        assert shown.startswith("epoch 3 of zork\n\n")
        assert shown.endswith("\nepoch 4 of zork")
        assert redact(shown) == shown


@pytest.mark.parametrize("form", FORMS)
def test_the_same_forms_of_a_name_that_is_no_secret_are_shown_whole(form: str) -> None:
    text = form.encode().decode("unicode_escape" if form.isascii() else "utf-8").format("optimiser", CANARY)
    assert redact(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "パスワード: {0}",
        "パスワードは{0}です",
        "トークン：{0}",
        "利用者bobの暗証番号 {0}",
        "ｐａｓｓｗｏｒｄ＝{0}",
        "CREATE USER bob IDENTIFIED BY '{0}'",
        "sshpass -p {0} ssh host",
        "mysql -u bob -p{0} db",
        "/usr/bin/mysqldump -h db -p'{0} {0}' x",
        "pwd: {0}",
        "pwd={0}",
        "pw={0}",
        "DB_PW={0}",
        "db_pass: |\n  {0}",
        "signing.key = (\n  {0}\n)",
        "auth = (user, {0})",
    ],
)
def test_other_words_for_a_secret_hide_what_follows_them(text: str) -> None:
    shown = redact(f"epoch 3 of zork\n\n{text.format(CANARY)}\nepoch 4 of zork")
    assert CANARY not in shown, shown
    assert shown.startswith("epoch 3 of zork\n\n")
    assert shown.endswith("\nepoch 4 of zork")
    assert redact(shown) == shown


values = st.text(string.ascii_letters + string.digits + "!#$%&*+-./:@^_~", min_size=1, max_size=8).map(CANARY.__add__)
between = st.sampled_from(
    [" ", ": ", " is ", " for bob: ", "> ", '" value="', '", "', " | ", " = {", " (", ", a=", "\n    "]
)


@given(st.sampled_from(NAMES), between, st.lists(values, min_size=1, max_size=3), st.sampled_from([" ", ", ", "|"]))
def test_no_word_behind_the_name_of_a_secret_is_shown(name: str, sign: str, words: list[str], gap: str) -> None:
    assume("\n" not in sign or not words[0].endswith(":"))  # a name in a block
    shown = redact(f"zork {name}{sign}{gap.join(words)}\nepoch 4 of zork")
    assert CANARY not in shown
    assert shown.startswith(f"zork {name}")
    assert shown.endswith("\nepoch 4 of zork")


LOG = """
2026-01-02 12:00:00,123 INFO tokenizer loaded from models/tokenizer.json in 0.3 s
INFO trainer: num_tokens=512 seen, throughput 1560 tokens/s, zork loss=0.3121
passed 12 tests of zork in 3.2 s
split of zork: key: 5-fold, author: the team of zork
sort --key 2 results.csv | zork
tokenization of zork took 3.2 s; 1200 documents were tokenized
models/token_classifier.joblib has 12 features of zork
token_type_ids of zork: 512
read from /srv/secrets/zork.json by zork
トークン数: 512 学習を開始しました
学習を開始しました epoch=3 loss=0.31
10.0.0.7 - - [02/Jan/2026:03:04:05 +0000] "POST /predict HTTP/1.1" 200 12 "-" "python-requests/2.31"
systemd[1]: zork.service: Main process exited, code=killed, status=9/KILL
cwd=/srv/zork PWD=/srv/zork OLDPWD=/tmp passkey monkey compass
""".strip().splitlines()


@pytest.mark.parametrize("line", LOG)
def test_a_line_that_only_sounds_like_a_secret_loses_no_word(line: str) -> None:
    assert redact(f"{line}\n  zork of zork\nzork") == f"{line}\n  zork of zork\nzork"


TOLD = """
Special tokens have been added in the vocabulary, make sure the embeddings are trained
the access token has expired 3 minutes ago, a new one was requested
could not refresh the access token after 30 seconds, retrying
NoCredentialsError, unable to locate credentials
An error occurred (ExpiredToken) when calling the operation: the provided token has expired
FATAL:  password authentication failed for user "postgres"
sshd[412]: Failed password for invalid user admin from 10.0.0.5 port 22
If you are specifying your api key in code, ensure this code is not shared publicly
Using a password on the command line interface can be insecure
POST /token HTTP/1.1 401 Unauthorized
Reading the secrets failed, no such file or directory
client = Client(timeout=30), raise ValueError("the token is missing")
{"level":"warning","msg":"missing api key","path":"/predict","status":401}
""".strip().splitlines()


def test_of_what_logs_tell_about_secrets_nine_words_of_ten_are_readable() -> None:
    shown = [redact(line) for line in TOLD]
    hidden = sum(line.count("[redacted:") for line in shown)
    assert hidden <= len(" ".join(TOLD).split()) / 10, [line for line in shown if "[redacted:" in line]


def test_the_words_of_sentences_are_those_of_no_drawn_value_and_are_listed_once() -> None:
    assert not TALK & WORDS
    assert all(all_natural(word) for word in TALK)


@pytest.mark.parametrize(
    "content",
    [
        {"secret": {"value": CANARY}},
        {"secret": {"a": [{"b": CANARY}, [CANARY]]}},
        {"credentials": {"value": 123456}},
        {"name": "DB_PASSWORD", "value": CANARY},
        {"Value": [CANARY], "Key": "api_token"},
        {"argv": ["train.py", "--db-password", CANARY, "--epochs", "3"]},
        {"env": [{"name": "MODE", "value": "full"}, {"name": "DB_PASS", "value": {"text": CANARY}}]},
    ],
)
def test_all_below_a_secret_name_is_hidden_and_so_is_the_value_beside_one(content: dict[str, object]) -> None:
    shown = json.dumps(redact_fields({"run": content, "note": CANARY, "metrics": [1, 0.5]}))
    assert shown.count(CANARY) == 1
    assert "123456" not in shown
    assert "[1, 0.5]" in shown
    assert ("full" in shown) == ("full" in json.dumps(content))


@given(st.recursive(st.text() | st.none() | st.booleans() | st.floats(), lambda inner: st.lists(inner, max_size=3)))
def test_fields_keep_their_form(content: object) -> None:
    for shown in (redact_fields({"a": content})["a"], redact_fields({"secret": content})["secret"]):
        assert re.sub(r"[^\[\]]", "", json.dumps(bare(shown))) == re.sub(r"[^\[\]]", "", json.dumps(bare(content)))


def bare(content: object) -> object:
    return [bare(each) for each in content] if isinstance(content, list) else None


@given(
    st.text(string.ascii_lowercase + "_-", min_size=2, max_size=8), st.sampled_from(["author", "tokenizer", "keyboard"])
)
def test_a_name_that_begins_like_a_secret_one_leaves_its_line_alone(tail: str, name: str) -> None:
    assume(not secret_name(f"{name}{tail}", alone=True))
    text = f"the {name}{tail} of {CANARY} was {CANARY}"
    assert redact(text) == text
