"""Read this host's time zone."""

from pathlib import Path
from zoneinfo import available_timezones


def own_zone() -> str:
    """Return the name of this host's time zone, from the link /etc/localtime; UTC if that names none."""
    name = str(Path("/etc/localtime").resolve()).rpartition("zoneinfo/")[2]
    return name if name in available_timezones() else "UTC"
