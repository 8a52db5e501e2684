"""Prediction service over one joblib model.

It keeps the habits of the real service on purpose: health says ok without a model, and
reload opens any path it is given. An evacuation has to be right in spite of both.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import joblib
import pandas as pd
from fastapi import FastAPI, HTTPException, Request, Response
from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable


class Classifier(Protocol):
    """What the service asks of a model; scikit-learn's pipelines comply."""

    feature_names_in_: Iterable[str]
    classes_: Iterable[object]

    def predict_proba(self, X: pd.DataFrame) -> Iterable[Iterable[float]]: ...  # noqa: D102, N803


@dataclass(frozen=True)
class Model:
    """A classifier and where it came from, so that a swap is one assignment."""

    path: Path
    classifier: Classifier
    columns: tuple[str, ...]


class Unloadable(Exception):
    """The file is there but is no model: torn, foreign, or not a classifier."""


class Service:
    """The only mutable state: which model answers, and how often it was asked."""

    def __init__(self) -> None:
        """Start with no model, which is a state the service must survive."""
        self.model: Model | None = None
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def count(self, series: str) -> None:
        """Add one; a lock because endpoints run on several threads."""
        with self._lock:
            self._counts[series] += 1

    def exposition(self) -> str:
        """Return the counters as Prometheus text, without its client library."""
        with self._lock:
            counts = dict(self._counts)
        names = ("api_requests_total", "api_predictions_total", "api_reloads_total")
        lines: list[str] = []
        for name in names:
            lines.append(f"# TYPE {name} counter")
            lines += [f"{s} {n}" for s, n in sorted(counts.items()) if s.split("{")[0] == name]
        lines += [
            "# TYPE api_model_loaded gauge",
            f"api_model_loaded {int(self.model is not None)}",
        ]
        return "\n".join(lines) + "\n"


class Features(BaseModel):
    """The body of a prediction: one number a column, named as in the schema."""

    features: dict[str, float]


def log(event: str, **fields: object) -> None:
    """Append a JSON line to the UTC day's log, in one write so that lines never mix."""
    now = datetime.now(UTC)
    line = json.dumps({"ts": stamp(now), "event": event, **fields}, ensure_ascii=False)
    path = Path("logs") / f"api-{now:%Y%m%d}.log"
    path.parent.mkdir(exist_ok=True)
    with path.open("ab", buffering=0) as file:
        file.write(line.encode("utf-8", "backslashreplace") + b"\n")


def stamp(moment: datetime) -> str:
    """Format a UTC moment as the project's logs do, to the millisecond."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def wanted_model() -> Path | None:
    """MODEL_PATH if given, else the newest model, else none."""
    if given := os.environ.get("MODEL_PATH"):
        return Path(given)
    return max(
        Path("models").glob("model_*.joblib"),
        key=lambda p: p.stat().st_mtime,
        default=None,
    )


def load(path: Path) -> Model:
    """Unpickle a model; whatever a torn file makes joblib raise becomes one error."""
    try:
        classifier: Classifier = joblib.load(path)
        return Model(path, classifier, tuple(map(str, classifier.feature_names_in_)))
    except FileNotFoundError:
        raise
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        raise Unloadable(message) from error


def load_at_start() -> Model | None:
    """Come up without a model rather than not at all, as the real service does."""
    path = wanted_model()
    if path is None:
        return None
    try:
        return load(path)
    except (FileNotFoundError, Unloadable) as error:
        log("load_failed", model=str(path), error=str(error))
        return None


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Load once, and leave a line for the start and for an orderly stop."""
    service.model = load_at_start()
    log(
        "start",
        pid=os.getpid(),
        model=str(service.model.path) if service.model else None,
    )
    yield
    log("stop", pid=os.getpid())


service = Service()
app = FastAPI(title="workload", lifespan=lifespan)


@app.middleware("http")
async def record(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Count and log each request, also one whose handler raised."""
    began, status = time.perf_counter(), 500
    try:
        response = await call_next(request)
        status = response.status_code
    finally:
        route = getattr(request.scope.get("route"), "path", "unmatched")
        service.count(f'api_requests_total{{path="{route}",status="{status}"}}')
        log(
            "request",
            method=request.method,
            path=request.url.path,
            status=status,
            ms=round((time.perf_counter() - began) * 1000, 1),
        )
    return response


def loaded() -> Model:
    """Return the model that answers now, or refuse with 503."""
    if service.model is None:
        raise HTTPException(503, "no model loaded")
    return service.model


@app.get("/health")
def health() -> dict[str, object]:
    """Say that the process answers, which is not to say that it can predict."""
    model = service.model
    return {
        "status": "ok",
        "model": str(model.path) if model else None,
        "ts": stamp(datetime.now(UTC)),
        "cols": len(model.columns) if model else 0,
        "model_exists": model is not None and model.path.exists(),
    }


@app.get("/schema")
def schema() -> dict[str, dict[str, str]]:
    """Name the columns in the form predict wants; a built-in set has numbers only."""
    return {"features": dict.fromkeys(loaded().columns, "number")}


@app.post("/predict")
def predict(body: Features) -> dict[str, object]:
    """Predict one row; a wrong set of columns is refused, not filled in."""
    model = loaded()
    missing = sorted(set(model.columns) - set(body.features))
    unknown = sorted(set(body.features) - set(model.columns))
    if missing or unknown:
        raise HTTPException(422, {"missing": missing, "unknown": unknown})
    row = pd.DataFrame([body.features], columns=list(model.columns))
    try:
        scores = next(iter(model.classifier.predict_proba(row)))
    except ValueError as error:
        raise HTTPException(422, str(error)) from error
    probabilities = {str(label): float(score) for label, score in zip(model.classifier.classes_, scores, strict=True)}
    service.count("api_predictions_total")
    return {
        "prediction": max(probabilities, key=lambda label: probabilities[label]),
        "probabilities": probabilities,
        "model": str(model.path),
    }


@app.post("/reload")
def reload(path: str) -> dict[str, object]:
    """Swap the model only when the new one has loaded; a refusal keeps the old one."""
    try:
        model = load(Path(path))
    except (FileNotFoundError, Unloadable) as error:
        service.count('api_reloads_total{result="refused"}')
        status = 404 if isinstance(error, FileNotFoundError) else 422
        raise HTTPException(status, str(error)) from error
    service.model = model
    service.count('api_reloads_total{result="ok"}')
    return {"status": "ok", "model": path, "cols": len(model.columns)}


@app.get("/metrics")
def metrics() -> Response:
    """Serve the counters to Prometheus."""
    return Response(service.exposition(), media_type="text/plain; version=0.0.4")
