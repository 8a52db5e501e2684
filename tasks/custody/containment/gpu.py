"""Say from what a GPU's driver tells which processes of the workload hold its memory."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from tasks.custody.visible import visible

_ROW: Final = re.compile(r"\s*(\d{1,9})\s*,\s*(?:(\d{1,9})|[^,]*)\s*(?:,.*)?", re.ASCII)
_SHOWN: Final = 100


@dataclass(frozen=True)
class GpuUse:
    """Lines of nvidia-smi on processes that hold memory of a GPU, and why these are not all, empty if they are.

    `held` says what the workload's processes hold, a line for each process and GPU.
    """

    held: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    trouble: str = ""

    @property
    def summary(self) -> str:
        """All of it."""
        return "; ".join(filter(None, (*self.held, *self.others, self.trouble))) or "nothing holds memory of a GPU"


def read_gpu_use(text: str, trouble: str, pids: Collection[int]) -> GpuUse:
    """Read what nvidia-smi prints: pid, MiB and program. `pids` are the workload's."""
    held, others, bad = list[str](), list[str](), 0
    for line in filter(str.strip, text.splitlines()):
        if not (row := _ROW.fullmatch(line)):
            bad += 1
        elif int(row[1]) in pids:
            held.append(f"process {row[1]} still holds {f'{row[2]} MiB' if row[2] else 'memory'} of a GPU")
        else:
            others.append(visible(line, _SHOWN))
    unread = f"{bad} lines of nvidia-smi are not understood" if bad else ""
    return GpuUse(tuple(held), tuple(others[:_SHOWN]), trouble or unread)
