"""Build matchers from a workload's fields."""

from blocks.workload_fields import WorkloadFields
from tasks.custody.containment.membership import Matcher, Named, matchers_of
from tasks.system.accounts import number_of


def matchers(workload: WorkloadFields) -> tuple[Matcher, ...]:
    """Return the matchers that recognise the workload's processes."""
    return matchers_of(dict(workload), number_of(workload.user))


def named(workload: WorkloadFields) -> Named:
    """Return what the block names beside its patterns."""
    return Named.of(dict(workload))
