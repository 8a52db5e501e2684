"""The block's line for a suspect: a pattern of whole words, under its right role."""

import tomllib

import pytest

from tasks.containment.suspects import roster_now, suggest_line
from tasks.host.host import LinuxHost
from tests.support.workloads import SmallWorkload, free_port, wait_until

SLEEPS = "import time; time.sleep(600)"
LISTENS = "import http.server, sys; http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), None).serve_forever()"


@pytest.mark.parametrize(
    ("words", "code", "field", "made"),
    [
        (["jobs/fit.py", "--rounds"], SLEEPS, "training_pattern", r"(?<![\w.-])jobs/fit\.py(?![\w./-])"),
        (["-m", "jobs.fit", "--rounds"], SLEEPS, "training_pattern", r"(?<![\w.-])jobs\.fit(?![\w./-])"),
        (["jobs/fit.py"], LISTENS, "api_pattern", r"(?<![\w.-])jobs/fit\.py(?![\w./-])"),
        (["-c", SLEEPS], SLEEPS, "worker_pattern", "^venv/bin/python"),
    ],
    ids=["a script", "a module", "a server", "code of its parent"],
)
def test_a_suspects_line_has_its_role_and_whole_words(
    small: SmallWorkload, words: list[str], code: str, field: str, made: str
) -> None:
    (small.root / "jobs").mkdir()
    (small.root / "jobs/fit.py").write_text(code)
    host, block, port = LinuxHost(root=small.root), small.block(), free_port()
    pid = small.start(["venv/bin/python", *words, str(port)]).pid
    if field == "api_pattern":
        wait_until(lambda: host.ports([host.snapshot()[pid].identity]), what="its port")
    ((told, pattern),) = tomllib.loads(suggest_line(host, block, host.snapshot()[pid], roster_now(host, block))).items()
    assert told == field
    assert pattern.startswith(f"{getattr(block, field)}|{made}")
