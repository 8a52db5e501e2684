"""Facts, and the laws about them, as frozen dataclasses and pure functions. No Prefect, subprocess or network."""
