"""§3: end each container that comes back after the stop, once; one that comes back again stays paused."""

import time
from collections import Counter
from dataclasses import replace
from typing import Final

from tasks.containment.containers.pause import WorkloadContainers
from tasks.containment.containers.stop import StoppingContainer
from tasks.custody.containment.receipt import End
from tasks.custody.errors import EngineError
from tasks.host.container.membership import Container
from tasks.runtime.context import RunContext
from tasks.runtime.frozen import frozen_containers

_EVERY_SECONDS: Final = 0.5
_RAN_BEFORE: Final = "it ran before the incident and had not been seen: carry the incident on"


class ContainerReturns:
    """Containers that have come back, and their sources."""

    def __init__(self, context: RunContext) -> None:
        """Begin with what earlier runs have found."""
        self.context, self.ours = context, WorkloadContainers(context)
        taken, kept = frozen_containers(context.state), context.state.returned_containers.read()
        kept = [each for each in kept if each.reason != _RAN_BEFORE or each.identity not in taken]
        self.found = {each.identity: each for each in kept}
        self.returns = Counter({each.reason for each in kept})
        self.standing: dict[str, None] = {}
        self._next = 0.0

    def look(self) -> bool:
        """Handle each container that has come back; True if there was one. Asks the engine at most twice a second."""
        if not self.context.workload.containers or time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + _EVERY_SECONDS
        try:
            known = frozen_containers(self.context.state).keys() | self.found.keys()
            new = [container for container in self.ours.find() if container.identity not in known]
            for container in new:
                self._deal_with(container)
        except EngineError as error:
            self.context.log.write("engine not asked", self.ours.engine.place, reason=str(error))
            return False
        self.context.state.returned_containers.write(list(self.found.values()))
        return bool(new)

    def _deal_with(self, container: Container) -> None:
        """End a container; leave it paused if its source has brought one before, because that would bring another.

        One that started before the incident stays paused too: it is the workload itself, and no look was taken at it.
        """
        frozen, source = self.ours.freeze_one(container), container.source
        older = container.identity.started_before(self.context.incident.opened_at)
        self.returns[source] += not older
        again = bool(source) and not older and self.returns[source] > 1
        if again:
            self.standing[source] = None
        stopping = StoppingContainer(self.context, frozen)
        receipt = stopping.receipt(End.HELD) if older or again else stopping.stop(gently=False)
        source = _RAN_BEFORE if older else source
        receipt = replace(receipt, reason=source or receipt.reason or "nothing that is known of brought it")
        self.found[container.identity] = receipt
        details = {"command": container.summary, "source": receipt.reason, "end": receipt.end}
        self.context.log.write("came back", container.id, **details)
