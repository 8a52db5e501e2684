"""What a GPU's driver prints, and which of it is the workload's."""

from dataclasses import replace

import pytest

from tasks.containment.gpu import pids_of_workload
from tasks.custody.containment.gpu import GpuUse, read_gpu_use
from tasks.custody.containment.identity import Identity
from tasks.host.process.process import Process


def process(pid: int, start: int = 1, parent: int = 1, container: str | None = None) -> Process:
    return Process(Identity(pid, start), parent, "S", container=container)


@pytest.mark.parametrize(
    ("text", "held", "others", "trouble"),
    [
        ("", (), (), ""),
        ("4711, 8123, python\n", ("process 4711 still holds 8123 MiB of a GPU",), (), ""),
        ("4712, 8123, python\n", (), ("4712, 8123, python",), ""),
        ("4711, [N/A], python\n", ("process 4711 still holds memory of a GPU",), (), ""),
        ("4711, 5, a, b,c\n", ("process 4711 still holds 5 MiB of a GPU",), (), ""),
        ("4711,5\n", ("process 4711 still holds 5 MiB of a GPU",), (), ""),
        ("14711, 5, x\n47110, 5, y\n", (), ("14711, 5, x", "47110, 5, y"), ""),
        ("No devices were found\n", (), (), "1 lines of nvidia-smi are not understood"),
        ("\x00\x01,,\n4711\n-1, 5, x\n٤٧١١, 5, x", (), (), "4 lines of nvidia-smi are not understood"),
        (f"{'9' * 5000}, 5, x", (), (), "1 lines of nvidia-smi are not understood"),
        ("7, 5, a\u202eb\x1b[0m", (), ("7, 5, a⟨U+202E⟩b␛[0m",), ""),
    ],
)
def test_what_is_printed(text: str, held: tuple[str, ...], others: tuple[str, ...], trouble: str) -> None:
    use = read_gpu_use(text, "", {4711})
    assert (use.held, use.others, use.trouble) == (held, others, trouble)


def test_two_gpus_are_two_lines() -> None:
    assert len(read_gpu_use("4711, 5, x\n4711, 6, x\n", "", {4711}).held) == 2


@pytest.mark.slow
def test_a_million_processes_of_others_are_not_kept() -> None:
    assert len(read_gpu_use("\n".join(f"{pid}, 5, x" for pid in range(1, 10**5)), "", ()).others) == 100


def test_why_nothing_was_printed_is_what_is_told() -> None:
    use = read_gpu_use("rubbish", "no answer", ())
    assert use == GpuUse(trouble="no answer")
    assert use.summary == "no answer"
    assert GpuUse().summary == "nothing holds memory of a GPU"


def test_a_pid_is_the_workload_s_while_no_other_process_has_it() -> None:
    frozen, child, other = process(11), process(12, parent=11), process(13)
    snapshot = {each.pid: each for each in (frozen, child, other, process(14, container="c"), process(15))}
    known = {frozen.identity, Identity(9, 1), Identity(15, 0)}
    assert pids_of_workload(snapshot, known, {"c"}) == {9, 11, 12, 14}
    reused = snapshot | {11: replace(frozen, identity=Identity(11, 99))}
    assert pids_of_workload(reused, known, ()) == {9}
