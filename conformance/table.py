"""Print a table of the vectors: the word that each has to get, and what both verifiers say.

    python -m conformance.table [NAME …]

The exit code is 1 if one says another word.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

HERE: Final = Path(__file__).parent
OURS: Final = shutil.which("evacuation", path=Path(sys.executable).parent) or "evacuation"


def say(command: list[str]) -> str:
    """Return the word that a verifier begins its report with."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout.split(maxsplit=1) or ["none"])[0].rstrip(",")


def main(names: list[str]) -> int:
    """Ask both about each vector."""
    unlike = 0
    print("| Vector | Expected | `evacuation audit` | `verify.py` |\n| --- | --- | --- | --- |")
    for path in sorted(HERE.glob("*/expected.json")):
        folder, expected = path.parent, json.loads(path.read_bytes())
        if names and folder.name not in names:
            continue
        files = {"--signers": folder / "allowed_signers", "--tsa-roots": folder / "roots.pem"}
        options = [word for option, file in files.items() if file.exists() for word in (option, str(file))]
        with TemporaryDirectory() as temporary:
            store = Path(temporary, "store.toml")
            store.write_text(f"[store.vector]\nfolder = {json.dumps(str(folder / 'bundle'))}\n")
            first = say([OURS, "audit", str(store), expected["id"], *options])
        second = say([sys.executable, str(HERE / "verify.py"), str(folder / "bundle"), expected["id"], *options])
        print(f"| {folder.name} | {expected['word']} | {first} | {second} |", flush=True)
        unlike += {first, second} != {expected["word"]}
    return min(unlike, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
