"""Steps 0 to 3 of the runbook as they stand, confined to one workload: a bench must hit nothing but what it started.

In this shell pkill and pgrep see only the workload's sessions (their own option -s), and the lock is the workload's
own. Nothing else is changed.
"""

from collections.abc import Iterable
from pathlib import Path
from shlex import quote
from typing import Final

_CONFINED: Final = """\
pkill() { command pkill -s SESSIONS "$@"; }
pgrep() { command pgrep -s SESSIONS "$@"; }
"""
RUNBOOK: Final = r"""
export INCIDENT_ID="IR-$(date -u +%Y%m%dT%H%M%SZ)"
export EVD="evidence/${INCIDENT_ID}"
mkdir -p "$EVD"

venv/bin/python - <<'PY' > "$EVD/envinfo.json"
import json,platform,subprocess,sys,datetime,sklearn,pandas
def git():
  try: return subprocess.check_output(["git","rev-parse","--short","HEAD"]).decode().strip()
  except Exception: return None
print(json.dumps({
  "incident_id": __import__("os").environ.get("INCIDENT_ID"),
  "ts_utc": datetime.datetime.utcnow().isoformat()+"Z",
  "python": platform.python_version(),
  "sklearn": sklearn.__version__,
  "pandas": pandas.__version__,
  "git_commit": git(),
}, indent=2))
PY

exec 9>/tmp/ml-train.lock; flock -n 9 || true

pkill -f "uvicorn .*api.app" || true
make docker-stop || true

pgrep -af "python -u src/train.py .* --mode full" || echo "no training"
pkill -f "python -u src/train.py .* --mode full" || true
"""


def typed(sessions: Iterable[int], lock: Path) -> str:
    """The script, for `bash -c` in the workload's root."""
    confined = _CONFINED.replace("SESSIONS", ",".join(map(str, sessions)))
    return confined + RUNBOOK.replace("/tmp/ml-train.lock", quote(str(lock)))  # noqa: S108  the runbook's own name for it
