"""Why something is not done before Prefect is imported."""


class NothingToFreeze(Exception):
    """The run is no evacuation, or a dry run."""


class NotNow(Exception):
    """Raised if this cannot be done before Prefect is imported, with the reason; the run does it."""
