"""Read from a workload's fields how its processes are recognised."""

from blocks.workload_fields import WorkloadFields
from tasks.custody.containment.membership import Matcher, Named, matchers_of
from tasks.system.accounts import number_of


def matchers(workload: WorkloadFields) -> tuple[Matcher, ...]:
    """How the workload block recognises its processes."""
    return matchers_of(dict(workload), number_of(workload.user))


def named(workload: WorkloadFields) -> Named:
    """What the workload block names beside its patterns."""
    return Named.of(dict(workload))
