"""Write the conformance vectors that are not there yet; one that is there is kept as it is, for later releases too.

    python -m conformance.make [NAME …]     all that are missing, or these; to make one anew remove its folder first

An incident is sealed with the product's own steps, then altered as an attacker would. README.md says what each file
of a vector is.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Final

from conformance.attacks import on_objects
from conformance.fleets import of_fleets
from conformance.forgeries import by_keys
from conformance.vector import Vector

HERE: Final = Path(__file__).parent


def write(vector: Vector) -> None:
    """Write one vector as a folder."""
    folder = HERE / vector.name
    for key, data in vector.objects.items():
        path = folder / "bundle" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    if vector.signers is not None:
        (folder / "allowed_signers").write_text(vector.signers)
    if vector.roots:
        (folder / "roots.pem").write_text(vector.roots)
    (folder / "expected.json").write_text(json.dumps(vector.expected, indent=2, ensure_ascii=False) + "\n")


def main(names: list[str]) -> None:
    """Write what is missing."""
    os.environ["TZ"] = "UTC"
    time.tzset()
    for vector in (*on_objects(), *by_keys(), *of_fleets()):
        if (not names or vector.name in names) and not (HERE / vector.name).exists():
            write(vector)
            print(vector.name)


if __name__ == "__main__":
    main(sys.argv[1:])
