"""Prediction service behind gunicorn, on the standard library: a key in a header, a health check that names no model.

venv/bin/python -m gunicorn --workers 2 --bind 127.0.0.1:8000 app:app
"""

from __future__ import annotations

import hmac
import json
import os
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MODEL = pickle.loads(Path(os.environ.get("MODEL_PATH", "models/house.pkl")).read_bytes())  # noqa: S301  its own
KEY = Path(os.environ.get("API_KEY_FILE", "api_key")).read_text().strip()


def answer(method: str, path: str, key: str, body: bytes) -> tuple[str, Any]:
    """Decide the status and what is said."""
    if not hmac.compare_digest(key.encode(), KEY.encode()):
        return "401 Unauthorized", {"detail": "a key is wanted in the header token"}
    if (method, path) == ("GET", "/api/health/heartbeat"):
        return "200 OK", {"is_alive": True}
    if (method, path) == ("POST", "/api/model/predict"):
        try:
            row = json.loads(body)
            value = MODEL["base"] + sum(weight * float(row[name]) for name, weight in MODEL["weights"].items())
        except (ValueError, KeyError, TypeError) as error:
            return "422 Unprocessable Entity", {"detail": repr(error)}
        return "200 OK", {"result": {"median_house_value": value, "currency": "USD"}}
    return "404 Not Found", {"detail": path}


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Answer one request of WSGI."""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    status, said = answer(environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("HTTP_TOKEN", ""), body)
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps(said).encode()]
