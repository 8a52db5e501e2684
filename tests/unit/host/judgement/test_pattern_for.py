"""The pattern of a process: whole words of what may be shown, which match it and nothing that is called alike."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.custody.containment.identity import Identity
from tasks.custody.incident.description import pattern
from tasks.host.judgement.suspect import pattern_for
from tasks.host.process.process import Process

ROOT = "/srv/house"


def of(line: str, cwd: str = ROOT) -> str:
    return pattern_for(Process(Identity(2, 1), 1, "S", tuple(line.split()), cwd=cwd))


@pytest.mark.parametrize(
    ("line", "also", "others"),
    [
        ("venv/bin/python -u src/fit.py --rounds 5", "python3 /srv/house/src/fit.py", "python src/fit.py.bak"),
        ("/srv/house/.venv/bin/python /srv/house/serve.py", "venv/bin/python serve.py", "python my-serve.py"),
        ("/usr/bin/python3 -m app.serve --port 80", "python -m app.serve", "python -m app.server"),
        ("python -m http.server 8000", "venv/bin/python -u -m http.server 9", "python -m myhttp.server"),
        ("venv/bin/python venv/bin/gunicorn -w 2 app:app", "gunicorn --bind x app:app", "gunicorn other:app"),
        ("venv/bin/python venv/bin/gunicorn -c conf.py app:app", "gunicorn -w 3 app:app", "gunicorn app:application"),
        ("venv/bin/python -m uvicorn main:app --port 80", "uvicorn main:app", "uvicorn domain:app"),
        ("node --max-old-space-size=128 lib/main.js --env x", "/usr/bin/node lib/main.js", "node lib/main.json"),
        ("java -Xmx1g -jar service.jar", "java -jar /srv/house/service.jar", "java -jar xservice.jar"),
        ("sh ./nightly.sh", "/bin/sh /srv/house/nightly.sh", "sh fortnightly.sh"),
        ("bin/serve --model m", "/srv/house/bin/serve", None),
    ],
)
def test_it_names_the_program_however_it_is_started(line: str, also: str, others: str | None) -> None:
    made = of(line)
    assert pattern(made) == made, "a block takes it"
    assert re.search(made, line)
    assert made == "" or re.search(made, also)
    assert others is None or not re.search(made, others)


def test_a_server_that_renames_itself_is_told_by_what_it_serves() -> None:
    renamed = Process(Identity(2, 1), 1, "S", ("gunicorn: worker [app:app]",), cwd=ROOT)
    made = pattern_for(renamed)
    for line in ("gunicorn: master [app:app]", "venv/bin/python -m gunicorn app:app"):
        assert re.search(made, line)


@pytest.mark.parametrize(
    ("line", "made"),
    [
        ("python -c print(1)", r"^python \-c print\(1\)$"),
        ("node --eval Zq8xW2kLp0vB3nM", ""),
        ("sleep 60", "^sleep 60$"),
        ("", ""),
        ("./Zq8xW2kLp0vB3nM", ""),
    ],
)
def test_where_no_word_tells_it_is_the_exact_line_or_nothing(line: str, made: str) -> None:
    assert of(line) == made


@given(st.text(string.ascii_letters + string.digits + "._-/:'\"$", min_size=8, max_size=40))
def test_no_hidden_word_gets_into_it(word: str) -> None:
    for line in (f"./serve.py --api-token {word}", f"./serve.py --api-token={word}"):
        made = of(line)
        assert made == r"(?<![\w.-])serve\.py(?![\w./-])"


@given(
    st.sampled_from(["fit.py", "src/fit.py", "lib/main.js"]), st.sampled_from([*string.ascii_letters, "-", "_", "."])
)
def test_no_letter_more_matches(name: str, letter: str) -> None:
    made = of(f"python {name} --rounds 5")
    assert re.search(made, f"python {name}")
    assert not re.search(made, f"python {letter}{name}")
    assert not re.search(made, f"python {name}{letter} x")


@pytest.mark.slow
def test_a_line_of_any_length_is_told_at_once() -> None:
    """The account writes it: where one word stands very often before none of the other, a search is quadratic."""
    words = ("x", "serve:app", "-m", "jobs.fit", *["jobs.fit"] * 100_000)
    assert pattern_for(Process(Identity(2, 1), 1, "S", words, cwd=ROOT)).startswith("^x serve:app ")
