"""Unit files and the journal: no word that nobody has declared harmless, however it is broken over lines."""

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.custody.evidence.redact import redact
from tasks.custody.evidence.systemd_redaction import redact_journal, redact_unit_files

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


def describe(**more: object) -> dict[str, object]:
    """An entry as the journal gives it."""
    return {
        "__CURSOR": "s=0f3c0f3c0f3c0f3c0f3c0f3c0f3c0f3c;i=1;b=aa3c0f3c0f3c0f3c;m=3e8;t=f423f;x=91b7584a2265b1f5",
        "__REALTIME_TIMESTAMP": "1760000000000000",
        "_BOOT_ID": "aa3c0f3c0f3c0f3c0f3c0f3c0f3c0f3c",
        "_TRANSPORT": "stdout",
        "_PID": "412",
        "_SYSTEMD_UNIT": "zork.service",
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "gunicorn",
        "CODE_FILE": "/srv/zork/app.py",
        "MESSAGE": "Worker 7 of zork answered POST /predict in 12 ms",
        **more,
    }


def write(entry: dict[str, object]) -> str:
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":")) + "\n"


def test_what_journald_itself_tells_and_an_ordinary_message_are_shown() -> None:
    for message in ("精度 0.9", list(b"\x1b[32mdone\x1b[0m"), "", None):
        entry = write(describe()) + write(describe(MESSAGE=message))
        assert redact_journal(entry) == entry


@pytest.mark.parametrize(
    "more",
    [
        {"_CMDLINE": f"app --licence {CANARY}"},
        {"COREDUMP_CMDLINE": f"app --licence {CANARY}"},
        {"OBJECT_CMDLINE": f"app {CANARY}"},
        {"COREDUMP_ENVIRON": f"PATH=/bin\nLICENCE={CANARY}\nMODE=prod\n{CANARY}"},
        {"COREDUMP_OPEN_FDS": f"0:{CANARY}"},
        {"COREDUMP_PROC_MOUNTINFO": list(f"x {CANARY}".encode())},
        {"_AUDIT_FIELD_A1": CANARY},
        {"_AUDIT_FIELD_CMD": CANARY.encode().hex().upper()},
        {"ANY": CANARY},
        {"ANY": [CANARY, list(CANARY.encode())]},
        {"ANY": 12345678},
        {"MESSAGE": f"the password={CANARY}"},
        {"MESSAGE": list(f"\x1b[1mpassword\x1b[0m={CANARY}".encode())},
        {"MESSAGE": [f"password={CANARY}", "done"]},
        {f"A{'1b' * 20}": ""},
    ],
    ids=str,
)
def test_of_the_journal_what_a_program_may_have_put_into_a_field_of_its_own_is_hidden(more: dict[str, object]) -> None:
    shown = redact_journal(write(describe(**more)))
    for secret in (CANARY, CANARY.encode().hex().upper(), str(list(CANARY.encode()))[1:-1], "12345678", "1b1b1b1b"):
        assert secret not in shown
    assert json.loads(shown).items() >= {name: each for name, each in describe().items() if name not in more}.items()
    assert redact_journal(shown) == shown


def test_a_line_of_the_journal_that_is_no_entry_is_redacted_as_text_and_takes_no_other_along() -> None:
    shown = redact_journal(f'-- Boot 1 --\n[1]\n{{"password={CANARY}\n{write(describe())}')
    assert CANARY not in shown
    assert shown.startswith("-- Boot 1 --\n[1]\n")
    assert shown.endswith(write(describe()))


contents = st.text(max_size=9) | st.none() | st.integers()


@given(st.dictionaries(st.text(max_size=9), contents | st.lists(contents, max_size=3), max_size=4))
def test_whatever_stands_in_an_entry_it_stays_one_line_that_can_be_read(fields: dict[str, object]) -> None:
    line = json.dumps(fields)
    shown = redact_journal(line)
    assert len(json.loads(shown)) <= len(fields)
    assert "\n" not in shown


def in_hex(*words: str) -> str:
    return "\0".join(words).encode().hex().upper()


@pytest.mark.parametrize(
    ("record", "shown"),
    [
        (
            "audit: type=1327 audit(1.2:3): proctitle=" + in_hex("python", "train.py", CANARY),
            'proctitle="python train.py [',
        ),
        (f'audit[7]: PROCTITLE proctitle="{CANARY * 3}x9"', "audit[7]: PROCTITLE proctitle="),
        (f'audit: type=1309 audit(1.2:3): argc=3 a0="mysql" a1="-p{CANARY}" a2="-h"', ' a2="-h"'),
        ('audit: type=1309 audit(1.2:3): argc=2 a0="loader" a1=' + in_hex(f"{CANARY} full"), 'a0="loader" a1="['),
        (f"audit[7]: USER_CMD pid=7 msg='cwd=\"/\" cmd={in_hex(f'login bob {CANARY}')} res=success'", " res=success'"),
        ("audit: type=1300 audit(1.2:3): arch=c000003e syscall=59 a0=7ffd10 a1=20 a2=10", "a0=7ffd10 a1=20 a2=10"),
    ],
)
def test_a_command_in_a_record_of_the_audit_is_redacted_as_a_command(record: str, shown: str) -> None:
    told = redact(f"[  1.2] {record}\n[  1.3] eth0: up", digests=True)
    if CANARY in record:
        assert CANARY not in told
    assert in_hex(CANARY) not in told
    assert shown in told
    assert told.endswith("\n[  1.3] eth0: up")
    assert redact(told, digests=True) == told
