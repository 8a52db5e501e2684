"""The small workloads of examples/ in a root of their own, described by the file that lies beside each."""

import shutil
from pathlib import Path
from typing import Final

from blocks.file import workload_given
from blocks.workload import Workload
from tests.support.environments import furnish
from tests.support.workloads import SmallWorkload, free_port, wait_until

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
KEY: Final = "cAnArY9ofTheExample7f1d"


class ExampleWorkload(SmallWorkload):
    """A copy of an example with its environment and a model."""

    def __init__(self, example: str, root: Path, secret: str) -> None:
        """Copy it and train; `secret` is the name of the Secret block that its file is to name."""
        source = EXAMPLES / example
        self.root, self.port, self.started = root, free_port(), []
        shutil.copytree(source, root)
        furnish(root, str(source / "requirements") if (source / "requirements.txt").exists() else "")
        text = (source / "evacuation.toml").read_text().replace("8000", str(self.port)).replace("house-api", secret)
        described = root.with_suffix(".toml")
        described.write_text(text)
        (root / "api_key").write_text(KEY)
        self.start([str(root / "venv/bin/python"), "train.py"]).wait(30)
        _, found = workload_given(described)
        where = {"root": root, "lock": root.with_suffix(".lock")}
        self.described = found.model_copy(
            update={**where, "grace_seconds": 5, "watch_seconds": 0.2, "recovery_seconds": 20}
        )

    @property
    def api_command(self) -> list[str]:
        """As its file says."""
        return self.described.api_command

    def block(self, **changes: object) -> Workload:
        """As its file says, in this root."""
        return self.described.model_copy(update=changes)

    def start_api(self) -> None:
        """Start the API with its environment, and wait until it answers."""
        self.start(self.api_command, **self.described.api_environment)
        wait_until(self.healthy, what="the API's answer")
