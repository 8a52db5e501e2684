"""Whether a JSON file of the workload is whole: latest/ must not get a torn summary."""

import json
from pathlib import Path
from typing import Final

_LIMIT: Final = 1 << 26


def torn_json(path: Path) -> str:
    """Why a file that is called JSON is not; empty for one that parses, and for any file that is called otherwise."""
    if path.suffix != ".json":
        return ""
    try:
        if path.stat().st_size > _LIMIT:
            return f"more than {_LIMIT} bytes of JSON"
        json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        return f"not whole JSON: {error}"
    return ""
