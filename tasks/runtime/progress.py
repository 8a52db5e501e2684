"""Show the progress of a transfer in the UI and in the log, from a thread. Best effort."""

import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

logger = logging.getLogger(__name__)

_EVERY: Final = 1.0
_LOG_EVERY: Final = 10.0
_TIMEOUT: Final = 2.0
_MIB: Final = 1 << 20


def artifact_key(name: str, incident: str) -> str:
    """Return a valid Prefect artifact key: lower case letters, digits and dashes."""
    return f"{name}-{re.sub('[^a-z0-9]+', '-', incident.lower())}"


@dataclass
class Progress:
    """Progress in objects and bytes. Thread-safe. `ways` counts bytes by how they reached the store."""

    objects: int
    size: int
    done: int = 0
    ways: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, objects: int, size: int, way: str = "") -> None:
        """Count objects and bytes as done."""
        with self._lock:
            self.done += objects
            self.ways[way] += size

    @property
    def done_size(self) -> int:
        """Bytes done, in all ways."""
        return self.ways.total()

    @property
    def percent(self) -> float:
        """Percentage of bytes done; of objects if there are no bytes."""
        part, whole = (self.done_size, self.size) if self.size else (self.done, self.objects)
        return round(min(100.0, 100 * part / whole), 1) if whole else 100.0

    def summary(self, seconds: float) -> str:
        """Return counts, bytes, rate and the time left at this rate."""
        rate = self.done_size / seconds if seconds > 0 else 0
        remaining = f", {max(0, self.size - self.done_size) / rate:.0f} s left" if rate else ""
        sizes = f"{self.done_size / _MIB:.1f} of {self.size / _MIB:.1f} MiB"
        return f"{self.done} of {self.objects} objects, {sizes}, {rate / _MIB:.1f} MiB/s{remaining}"


@contextmanager
def show_progress(name: str, incident: str, progress: Progress) -> Iterator[None]:
    """Show the progress once a second while the block runs, and once at its end. Does not wait for the server."""
    ended = threading.Event()
    shown = (_show, name, incident, progress, ended)
    threading.Thread(target=copy_context().run, args=shown, name=f"progress {name}", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _show(name: str, incident: str, progress: Progress, ended: threading.Event) -> None:
    """Update artifact and log until `ended`. Errors are ignored, so that they do not disturb the transfer."""
    began = logged = time.monotonic()
    shown_as, last = None, False
    while not last:
        last = ended.wait(_EVERY)
        now = time.monotonic()
        summary = progress.summary(now - began)
        if now - logged > _LOG_EVERY:
            logged = now
            logger.info("%s: %s", name, summary)
        with suppress(Exception):
            shown_as = _put(shown_as, artifact_key(name, incident), f"{incident}: {summary}", progress.percent)


def _put(shown_as: UUID | None, key: str, description: str, percent: float) -> UUID | None:
    """Create or update the step's progress artifact, and return its id; None outside of a run."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
    from prefect.context import TaskRunContext

    run = TaskRunContext.get()
    if run is None:
        return None
    with get_client(sync_client=True, httpx_settings={"timeout": _TIMEOUT}) as client:
        if shown_as:
            client.update_artifact(shown_as, ArtifactUpdate(description=description, data=percent))
            return shown_as
        ids = {"task_run_id": run.task_run.id, "flow_run_id": run.task_run.flow_run_id}
        page = ArtifactCreate(key=key, type="progress", description=description, data=percent, **ids)
        return client.create_artifact(page).id
