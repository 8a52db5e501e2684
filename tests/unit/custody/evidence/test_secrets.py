"""Secrets in files of the workload are found by line and rule, and ordinary logs are left in peace."""

import io
import json
import pickle
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.custody.evidence.public_tokens import SHAPES
from tasks.custody.evidence.redact import redact
from tasks.custody.evidence.secrets_in_files import (
    MOST,
    Hit,
    Search,
    Searching,
    is_binary,
    looks_secret,
    notes_of,
    search,
)
from tests.support.examples import scaled

DICE = random.Random(3)  # noqa: S311  a repeatable test, no secret


def letters(count: int, alphabet: str = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789") -> str:
    return "".join(DICE.choice(alphabet) for _ in range(count))


# Put together here, so that no scanner of this repository takes them for real ones.
UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
PLANTED = {
    "AWS access key": f"using {'AKI' + 'A'}{letters(16, UPPER)} now",
    "GitHub token": f"clone with {'gh' + 'p_'}{letters(36)}",
    "GitLab token": f"{'glp' + 'at-'}{letters(20)}",
    "Slack token": f"{'xox' + 'b-'}{letters(24)}",
    "Google API key": f"key {'AI' + 'za'}{letters(35)}",
    "Hugging Face token": f"{'h' + 'f_'}{letters(34)}",
    "API key of a model service": f"{'s' + 'k-'}{letters(48)}",
    "Stripe key": f"{'sk_' + 'live_'}{letters(24)}",
    "package registry token": f"{'np' + 'm_'}{letters(36)}",
    "JSON web token": f"{'ey' + 'J'}{letters(20)}.{'ey' + 'J'}{letters(30)}.{letters(20)}",
    "private key": f"-----BEGIN {'OPENSSH PRIVATE'} KEY-----",
    "password in a URL": f"postgresql+psycopg://mlops:{letters(9)}@db.internal:5432/features",
    "bearer token": f"Authorization: Bearer {letters(32)}",
    "value of a secret-looking name": f"AWS_SECRET_ACCESS_KEY={letters(40)}",
}
ASSIGNED = [
    'password = "correct-horse-9"',
    "db.password: tr0ub4dor",
    '{"api_key": "9f8e7d6c5b4a3210ffee"}',
    '{"message": "login with {\\"token\\": \\"abc123def456ghi7\\"}"}',
    "MLFLOW_TRACKING_PASSWORD='S3cretS3cret'",
    "client-secret => 8d3f0a77b1c24e55",
    'DB_PASSWORD = """tr0ub4dor"""',
]
HARMLESS = [
    "iter 12 loss=0.123456789012 tokens=51200 token_count: 123456 max_tokens=4096 lr=1.000e-03",
    "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    '{"features": {"password_strength": 0.4, "token_length": 12, "auth_method": "oauth2"}, "key": "value"}',
    "tokenizer=BertTokenizerFast9 secret_name=projects/1/secrets/x9 password_file=/run/secrets/db1",
    "password=[redacted] token=***** api_key=${API_KEY_1} secret={{ secret_1 }} password: None token: null",
    "cookie consent given; authentication required; secret: required; passwords do not match",
    "0.1234567890123,9.876543210987654,1e-300,-0.25",
    "GET /health HTTP/1.1 200 https://example.org:8443/path@v2 user@host",
    "commit 1f0e4a5b6c7d8e9f00112233445566778899aabb AKIA and ghp_ are prefixes",
]


def found(text: str) -> list[tuple[int, str]]:
    return [(hit.line, hit.rule) for hit in search(io.BytesIO(text.encode()), "logs/x.log").hits]


def matching(shape: str) -> st.SearchStrategy[bytes]:
    """What a shape fits, as hypothesis reads it. It knows no possessive repetitions: they take the same."""
    return st.from_regex(shape.replace("}+", "}").encode(), fullmatch=True)


@pytest.mark.parametrize("rule", PLANTED)
def test_each_kind_of_secret_is_found_in_its_line(rule: str) -> None:
    assert (3, rule) in found(f"first\nsecond\n{PLANTED[rule]}\nlast")


@given(st.sampled_from([each for shapes in SHAPES.values() for each in shapes]).flatmap(matching), st.booleans())
def test_whatever_has_a_known_shape_is_found(text: bytes, dense: bool) -> None:  # noqa: FBT001
    around = b"\x01\x02 \n" if dense else b" \n"
    assert search(io.BytesIO(around + text + around), "models/m.bin").hits


@pytest.mark.parametrize("line", ASSIGNED)
def test_what_is_assigned_to_a_secret_looking_name_is_found(line: str) -> None:
    assert found(f"\n{line}\n") == [(2, "value of a secret-looking name")]


@pytest.mark.parametrize("line", HARMLESS)
def test_ordinary_lines_are_left_in_peace(line: str) -> None:
    assert found(line) == []


@pytest.mark.slow
def test_a_long_log_of_digests_and_floats_has_no_hit() -> None:
    lines = [
        json.dumps(
            {"iter": n, "loss": DICE.random(), "digest": DICE.randbytes(32).hex(), "run": DICE.randbytes(16).hex()}
        )
        for n in range(5000)
    ]
    assert found("\n".join(lines)) == []


@pytest.mark.parametrize("rule", PLANTED)
def test_what_is_told_never_holds_the_value(rule: str) -> None:
    line = PLANTED[rule]
    told = repr(search(io.BytesIO(line.encode()), "x"))
    assert not [word for word in line.split() if len(word) > 12 and word in told]


@pytest.mark.slow
def test_lines_are_counted_over_the_pieces_in_which_a_file_is_read() -> None:
    lines = ["x" * 99] * 30_000
    for number in (1, 10_485, 10_486, 20_971, 30_000):
        lines[number - 1] = PLANTED["GitHub token"]
    assert [line for line, _ in found("\n".join(lines))] == [1, 10_485, 10_486, 20_971, 30_000]


@pytest.mark.slow
@pytest.mark.parametrize("before", [0, (1 << 20) - 20, (1 << 20) - 4, 3 << 20])
def test_a_secret_in_a_line_without_end_is_found_once(before: int) -> None:
    assert found(" " * before + PLANTED["GitHub token"] + " " * (1 << 20)) == [(1, "GitHub token")]


def test_what_was_not_searched_is_said() -> None:
    text = b"harmless\n" * 1000 + PLANTED["GitHub token"].encode()
    cut = search(io.BytesIO(text), "x", limit=5000)
    assert (cut.hits, cut.unsearched) == ((), "what follows its first 5000 bytes")
    assert search(io.BytesIO(text), "x", limit=None).hits
    exactly = search(io.BytesIO(text), "x", limit=len(text))
    assert exactly.hits
    assert not exactly.unsearched
    binary = search(io.BytesIO(bytes(range(256)) + PLANTED["GitHub token"].encode() + b" password=Tr0ub4dor9"), "x")
    assert [hit.rule for hit in binary.hits] == ["GitHub token"]
    assert binary.unsearched.startswith("binary")


def test_hits_beyond_the_first_are_counted() -> None:
    text = "\n".join([PLANTED["GitHub token"]] * (MOST + 7))
    made = search(io.BytesIO(text.encode()), "x")
    assert (len(made.hits), made.more) == (MOST, 7)
    assert notes_of([made])[0].startswith(f"{MOST + 7} places in 1 files")
    assert notes_of([Search("y", unsearched="binary")]) == ()


@pytest.mark.slow
@pytest.mark.parametrize("hole", [1, 5000, 3 << 20])
def test_a_log_with_a_hole_is_a_text(hole: int) -> None:
    secret = ASSIGNED[0].encode()
    for data in (bytes(hole) + b"\n" + secret, b"\n" + secret + bytes(hole), b"\n" + secret + b"\n" + bytes(hole)):
        made = search(io.BytesIO(data), "logs/x.log", None)
        assert made.hits == (Hit(2, "value of a secret-looking name"),)
        assert not made.unsearched


@pytest.mark.slow
def test_a_hole_costs_no_search_and_parts_what_it_stood_between() -> None:
    token = PLANTED["GitHub token"].split()[-1].encode()
    searching, began = Searching(None), time.process_time()
    for block in (b"a\n", *[bytes(1 << 20)] * 200, token, bytes(1 << 20), b"b\n" + token):
        searching.take(block)
    assert [hit.line for hit in searching.finish("x").hits] == [2, 3]
    assert time.process_time() - began < 5


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
def test_text_in_wide_letters_is_searched(encoding: str) -> None:
    made = search(io.BytesIO(f"\n{PLANTED['AWS access key']}\n{ASSIGNED[0]}".encode(encoding)), "x")
    assert [hit.line for hit in made.hits] == [2, 3]


def test_what_a_model_is_made_of_is_binary_and_what_a_terminal_shows_is_not() -> None:
    assert is_binary(pickle.dumps({"weights": [DICE.random() for _ in range(500)]}))
    assert is_binary(DICE.randbytes(5000))
    assert not is_binary(b"\x1b[31mepoch 1\x1b[0m\b\b\b\r\a 10%\n" * 9)
    assert not is_binary("\u5b66\u7fd2\u3092\u958b\u59cb\n".encode("shift_jis"))
    assert not is_binary(b"")


@pytest.mark.slow
def test_a_text_that_is_nothing_but_hits_costs_linear_time() -> None:
    line = PLANTED["AWS access key"].split()[1].encode() + b"\n"
    began = time.process_time()
    made = search(io.BytesIO(line * 200_000), "x", None)
    assert time.process_time() - began < 10
    assert (len(made.hits), made.more, made.hits[-1].line) == (MOST, 200_000 - MOST, MOST)


@pytest.mark.slow
def test_a_line_of_many_blocks_is_one_hit_a_rule() -> None:
    data = (PLANTED["GitHub token"] + " ").encode() + b" " * (5 << 20) + PLANTED["GitHub token"].encode()
    assert search(io.BytesIO(data), "x", None).hits == (Hit(1, "GitHub token"),)


@pytest.mark.parametrize(
    "unit", ["a", "password", "token=", "://a:", "eyJ", "-----BEGIN ", "bearer ", "password  ", "AKIA"]
)
def test_hostile_text_costs_linear_time(unit: str) -> None:
    text = (unit * (scaled(2_000_000) // len(unit))).encode()
    began = time.process_time()
    search(io.BytesIO(text), "x")
    assert time.process_time() - began < 10


@given(st.binary(max_size=400))
@settings(max_examples=scaled(200))
def test_any_bytes_can_be_searched(data: bytes) -> None:
    assert search(io.BytesIO(data), "x").stored == "x"


def test_a_name_about_a_secret_is_none() -> None:
    assert looks_secret("api_key", "0123456789abcdef")
    assert not looks_secret("api_key_id", "0123456789abcdef")
    assert not looks_secret("token", "123456789012")


@pytest.mark.parametrize("rule", PLANTED)
def test_what_a_search_finds_redaction_hides(rule: str) -> None:
    hidden = redact(PLANTED[rule])
    assert found(hidden) == []
    assert not [word for word in PLANTED[rule].split() if len(word) > 19 and word in hidden]


@pytest.mark.parametrize("before", ["\u3042", "x", "'", "[redacted]"])
@pytest.mark.parametrize("rule", PLANTED)
def test_redaction_hides_it_whatever_stands_before(rule: str, before: str) -> None:
    assert found(redact(before + PLANTED[rule].removeprefix("Authorization: "))) == []


def test_redaction_hides_the_body_of_a_private_key() -> None:
    body = "\n".join(letters(64) for _ in range(5))
    for end in (f"\n-----END {'RSA PRIVATE'} KEY-----\nafter", ""):
        hidden = redact(f"before\n-----BEGIN {'RSA PRIVATE'} KEY-----\n{body}{end}")
        assert not [line for line in body.splitlines() if line in hidden]
        assert hidden.startswith("before")
        assert hidden.endswith("after" if end else "]")
