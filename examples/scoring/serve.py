"""Scoring server over a model folder, by the protocol of MLflow's: GET /ping, POST /invocations. Standard library.

python3 serve.py --model-uri models/churn --port 8000
"""

import argparse
import json
import pickle
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


def load(folder: Path) -> dict[str, Any]:
    """Unpickle what the folder's MLmodel names."""
    about = dict(line.strip().split(": ", 1) for line in (folder / "MLmodel").read_text().splitlines() if ": " in line)
    model: dict[str, Any] = pickle.loads((folder / about["model_path"]).read_bytes())  # noqa: S301  its own
    return model


def rows(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Read the rows of either form that is understood."""
    if "dataframe_split" in body:
        table = body["dataframe_split"]
        return [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    return list(body["dataframe_records"])


class Scoring(BaseHTTPRequestHandler):
    """Answer by the model in `model`."""

    model: dict[str, Any]

    def do_GET(self) -> None:
        """Say that it is up: nothing else."""
        self._say(200 if self.path in {"/ping", "/health"} else 404, b"\n")

    def do_POST(self) -> None:
        """Score rows."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path != "/invocations":
            return self._say(404, b"{}")
        try:
            weights = self.model["weights"]
            scores = [
                sum(weight * float(row[name]) for name, weight in weights.items()) for row in rows(json.loads(body))
            ]
        except (ValueError, KeyError, TypeError) as error:
            return self._say(400, json.dumps({"error_code": "BAD_REQUEST", "message": repr(error)}).encode())
        return self._say(200, json.dumps({"predictions": scores}).encode())

    def _say(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-uri", type=Path, required=True)
    parser.add_argument("--port", type=int, default=8000)
    given = parser.parse_args()
    Scoring.model = load(given.model_uri)
    ThreadingHTTPServer(("127.0.0.1", given.port), Scoring).serve_forever()


if __name__ == "__main__":
    main()
