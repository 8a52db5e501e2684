"""Ask NVIDIA's driver which processes hold memory of a GPU. A driver that hangs is not waited for."""

import shutil
import subprocess
from typing import Final

from tasks.system.cancellation import run_in_thread

PATH: Final = "/usr/bin:/usr/local/bin:/bin"
"""Where only root may write: the workload's environment does not say where the program is."""
_LIMIT: Final = 1 << 20
_QUERY: Final = ("--query-compute-apps=pid,used_memory,process_name", "--format=csv,noheader,nounits")


def compute_apps(path: str = PATH, seconds: float = 2.0) -> tuple[str, str] | None:
    """Return what nvidia-smi prints, or why it cannot be used; None if there is no such program.

    It is killed when the time is up, or after a MiB, and not waited for: while the driver hangs it cannot end.
    """
    if not (program := shutil.which("nvidia-smi", path=path)):
        return None
    started = list[subprocess.Popen[bytes]]()

    def answer() -> tuple[str, str]:
        with subprocess.Popen(
            [program, *_QUERY],
            env={"PATH": path, "LC_ALL": "C.UTF-8"},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            started.append(process)
            text = process.stdout.read(_LIMIT) if process.stdout else b""
            process.kill()  # one that has ended by itself keeps its exit code
        failed = f"nvidia-smi failed with {process.returncode}" if process.returncode else ""
        return "" if failed else text.decode(errors="replace"), failed

    try:
        return run_in_thread(answer)[0].result(seconds)
    except TimeoutError:
        for process in started:
            process.kill()
        return "", f"nvidia-smi gave no answer within {seconds:g} s"
    except OSError as error:
        return "", f"nvidia-smi did not start: {error.strerror}"
