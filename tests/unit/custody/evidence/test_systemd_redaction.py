"""Unit files and the journal: no word that nobody has declared harmless, however it is broken over lines."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.custody.evidence.systemd_redaction import redact_unit_files

CANARY = "zonnebloem"
UNIT = """# /usr/lib/systemd/system/house.service
[Unit]
Description=Prices of houses, by night
After=network-online.target

[Service]
Type=simple
User=mlops
WorkingDirectory=/srv/house
Environment=PYTHONUNBUFFERED=1 LICENCE=
ExecStart=/srv/house/venv/bin/uvicorn app:app --host 0.0.0.0 --port 8000 --workers 2
Restart=on-failure
RestartSec=5
MemoryMax=4G

[Install]
WantedBy=multi-user.target"""


def test_a_unit_file_without_a_secret_is_unchanged() -> None:
    shown = redact_unit_files(UNIT).splitlines()
    assert shown[1:] == UNIT.splitlines()[1:]
    broken = redact_unit_files(UNIT.replace(" --workers", " \\\n    --workers"))
    assert broken.replace("  ", " ").splitlines()[1:] == shown[1:]


@pytest.mark.parametrize(
    "lines",
    [
        "Environment=MODE=prod \\\n  LICENCE={0} \\\n\tSMTP=bob:{0}",
        "Environment = LICENCE={0}",
        "Environment=MODE=prod {0}",
        "   Environment=LICENCE={0}",
        "#Environment=LICENCE={0}",
        "; Environment = LICENCE={0}",
        "Environment=LICENCE='{0}",
        "ExecStart=/srv/house/run app:app \\\n --licence {0} \\\n -u bob {0}",
        "ExecStartPre = -/bin/sh -c 'login bob {0}; echo up'",
        "ExecStart=/srv/house/run \\\n# in two parts\n  --licence {0}",
        "Environment=A=b \\\n# in two parts\nLICENCE={0}",
        "SetCredential=licence:{0}",
        "SetCredential=licence:1 \\\n{0}",
        "X-Licence={0}",
        "ImportCredential=full",
        "# once it was started with {0}",
        "{0}",
    ],
)
def test_no_value_of_a_unit_file_is_shown_however_its_line_is_broken(lines: str) -> None:
    shown = redact_unit_files(UNIT.replace("[Install]", lines.format(CANARY) + "\n\n[Install]"))
    assert CANARY not in shown
    assert "Credential=full" not in shown
    assert shown.splitlines()[1:13] == UNIT.splitlines()[1:13]
    assert shown.endswith("WantedBy=multi-user.target")


word = st.text(string.ascii_lowercase, min_size=3, max_size=8)


@given(
    st.sampled_from(["Environment", "ExecStart", "ExecReload", "X-Any", "StatusText", "# Environment", " ExecStop"]),
    st.sampled_from(["=", " = ", "=  "]),
    st.lists(word.map(lambda text: f"{CANARY}{text}"), min_size=1, max_size=4),
    st.sampled_from(["", "--{0} ", "{0}=", "sh -c 'x {0}' ", "-p "]),
    st.sampled_from([" ", " \\\n", " \\\n    "]),
)
def test_where_a_line_is_broken_makes_no_difference(
    directive: str, sign: str, values: list[str], before: str, gap: str
) -> None:
    text = directive + sign + gap.join(["/usr/bin/env", *(before.format("A") + value for value in values)])
    shown = redact_unit_files(text)
    assert CANARY not in shown
    assert redact_unit_files(shown) == shown
    joined = redact_unit_files(text.replace(gap, " "))
    assert shown.split() == joined.split()
