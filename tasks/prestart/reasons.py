"""Name the reasons for which something is not done before Prefect is imported."""


class NothingToFreeze(Exception):
    """The run is no evacuation, a dry run, an old order or alarm, or a retry of what is finished."""


class NotNow(Exception):
    """Raised if this cannot be done before Prefect is imported, with the reason; the run does it."""
