"""Lines of a training on their way into a log: a secret is none of them, on whatever line its name stood."""

import pytest

from tasks.training.log_lines import Lines, RateLimitedLog

CANARY = b"zonnebloem"


def show(output: bytes) -> list[str]:
    """The lines as they are told."""
    shown = list[str]()
    lines, log = Lines(), RateLimitedLog(shown.append)
    for line in (*lines.feed(output), *lines.rest()):
        log(line)
    return shown


@pytest.mark.parametrize(
    "output",
    [
        b"password=%s",
        b"password:\n%s",
        b"password: |\n  first: %s\n  %s",
        b"credentials = (\r\n  '%s',\r\n  '%s'\r\n)",
        b"- name: DB_PASSWORD\n  value: %s",
        b"-----BEGIN PRIVATE KEY-----\n%s\n%s\n-----END PRIVATE KEY-----",
    ],
)
def test_a_value_below_the_name_of_its_secret_is_hidden(output: bytes) -> None:
    shown = show(b"epoch 3 of zork\n%s\nepoch 4 of zork\n" % output.replace(b"%s", CANARY))
    assert CANARY.decode() not in "".join(shown)
    assert shown[0] == "epoch 3 of zork"
    assert shown[-1] == "epoch 4 of zork"


def test_other_lines_are_shown_as_they_are_whatever_stands_before_them() -> None:
    lines = ["the password was changed", "epoch 3 of zork", "  zork: 0.5", "", "key: 5-fold of zork"]
    assert show("\n".join(lines).encode()) == lines
