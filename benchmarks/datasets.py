"""The data sets of the offload bench: artifacts that look like pictures, of bytes that nothing can compress."""

import os
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

KIB: Final = 1 << 10
MIB: Final = 1 << 20
FOLDER: Final = "artifacts"
"""A folder of the runbook, whose files latest/ gets without anybody having to judge them."""
_BLOCK: Final = 8 * MIB
_HEAD: Final = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class DataSet:
    """So many small files of sizes between two bounds, and so many large ones of one size."""

    name: str
    small: int
    least: int
    most: int
    large: int = 0
    large_size: int = 512 * MIB

    @property
    def many(self) -> bool:
        """Whether it is for what a number of files costs: too many for the others' turns."""
        return "N" in self.name

    def lay_out(self, root: Path) -> int:
        """Write it as a workload has it; its bytes. The same seed gives the same sizes."""
        draw = random.Random(self.name)  # noqa: S311  sizes are no secret
        sizes = {f"{FOLDER}/large-{number}.png": self.large_size for number in range(self.large)}
        small = (f"{FOLDER}/small-{number:06}.png" for number in range(self.small))
        sizes |= {name: draw.randint(self.least, self.most) for name in small}
        (root / FOLDER).mkdir(parents=True)
        for name, size in sizes.items():
            with (root / name).open("wb") as file:
                left = size - file.write(_HEAD)
                while left:
                    left -= file.write(os.urandom(min(left, _BLOCK)))
        return sum(sizes.values())


SETS: Final[Mapping[str, DataSet]] = {
    each.name: each
    for each in (
        DataSet("S", 5_000, 4 * KIB, 64 * KIB),
        DataSet("M", 1_000, 100_000, 100_000, large=2),
        DataSet("L", 0, 0, 0, large=4),
        DataSet("N", 100_000, KIB, 4 * KIB),
        DataSet("N/10", 10_000, KIB, 4 * KIB),
        DataSet("3N", 300_000, KIB, 4 * KIB),
        DataSet("3N/10", 30_000, KIB, 4 * KIB),
        DataSet("tiny", 60, 4 * KIB, 64 * KIB, large=1, large_size=8 * MIB),
    )
}
