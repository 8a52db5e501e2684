"""Write artifacts/manifest.json: size, SHA-256 and time of each model, summary, search result and log."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

PATTERNS = ("models/model_*.joblib", "artifacts/summary_*.json", "artifacts/cv_results_*.csv", "logs/*.log")


def about(path: Path) -> dict[str, object]:
    """One item."""
    found = path.stat()
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"path": str(path), "bytes": found.st_size, "sha256": sha256, "mtime": found.st_mtime}


def main() -> None:
    """Write it anew."""
    items = [about(path) for pattern in PATTERNS for path in sorted(Path().glob(pattern))]
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    text = json.dumps({"generated_utc": now, "items": items}, indent=2)
    Path("artifacts/manifest.json").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
