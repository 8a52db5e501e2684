"""Prediction service over one joblib model.

It keeps the habits of the real service on purpose: health says ok without a model and names a base name only, a path
that cannot be loaded ends in 500, and metrics never answer. An evacuation has to be right in spite of them.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import pandas as pd
from fastapi import FastAPI, HTTPException, Request, Response
from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

DEFAULT_MODEL = "models/model_openml_adult.joblib"


@dataclass
class Service:
    """The only mutable state: which model is wanted, and the pipeline that answers, if one was loaded."""

    path: Path
    pipeline: Any = None

    def load(self, path: Path) -> None:
        """Swap the pipeline only when the new one has loaded."""
        pipeline = joblib.load(path)
        self.path, self.pipeline = path, pipeline

    @property
    def columns(self) -> list[str]:
        """Names of the columns that the pipeline was trained with."""
        return [str(name) for name in getattr(self.pipeline, "feature_names_in_", ())]

    @property
    def numeric(self) -> list[str]:
        """Those that the step of the numbers takes; none for a pipeline without such a step."""
        steps = getattr(self.pipeline, "named_steps", {})
        taken = getattr(steps.get("columns"), "transformers_", ())
        return [str(name) for kind, _, names in taken if kind == "numbers" for name in names]


class Row(BaseModel):
    """The body of a prediction: a value for each column, named as in the schema."""

    features: dict[str, Any]


class Rows(BaseModel):
    """The body of many predictions."""

    rows: list[dict[str, Any]]


def log(event: str, **fields: object) -> None:
    """Append a JSON line to the UTC day's log, in one write so that lines never mix."""
    now = datetime.now(UTC)
    stamp = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line = json.dumps({"ts": stamp, "event": event, **fields}, ensure_ascii=False)
    path = Path("logs") / f"api-{now:%Y%m%d}.log"
    path.parent.mkdir(exist_ok=True)
    with path.open("ab", buffering=0) as file:
        file.write(line.encode("utf-8", "backslashreplace") + b"\n")


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Come up without a model rather than not at all; leave a line for the start and for an orderly stop."""
    try:
        service.load(service.path)
    except Exception as error:  # noqa: BLE001  a torn file makes joblib raise anything
        log("load_failed", model=str(service.path), error=f"{type(error).__name__}: {error}")
    log("start", pid=os.getpid(), model=service.path.name)
    yield
    log("stop", pid=os.getpid())


service = Service(Path(os.environ.get("MODEL_PATH") or DEFAULT_MODEL))
app = FastAPI(title="workload", lifespan=lifespan)


@app.middleware("http")
async def record(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Log each request, also one whose handler raised."""
    began, status = time.perf_counter(), 500
    try:
        response = await call_next(request)
        status = response.status_code
    finally:
        took = round((time.perf_counter() - began) * 1000, 1)
        log("request", method=request.method, path=request.url.path, status=status, ms=took)
    return response


@app.get("/health")
@app.get("/healthz")
def health() -> dict[str, object]:
    """Say that the process answers, which is not to say that it can predict."""
    return {
        "status": "ok",
        "model": service.path.name,
        "ts": time.time(),
        "cols": len(service.columns) if service.pipeline is not None else None,
        "model_exists": service.path.exists(),
    }


@app.get("/schema")
def schema() -> dict[str, list[str]]:
    """Name the columns; none without a model."""
    return {"required_columns": service.columns, "numeric_columns": service.numeric}


def scores(rows: Sequence[dict[str, Any]]) -> tuple[str, list[float] | list[int]]:
    """The answer's key and a score for each row; a column that is missing is null. 503 without a model."""
    if service.pipeline is None:
        raise HTTPException(503, "no model loaded")
    table = pd.DataFrame(rows, columns=service.columns)
    if hasattr(service.pipeline, "predict_proba"):
        return "pred_proba", [float(each[1]) for each in service.pipeline.predict_proba(table)]
    return "pred", [int(each) for each in service.pipeline.predict(table)]


@app.post("/predict")
def predict(body: Row) -> dict[str, float | int]:
    """Predict one row."""
    key, found = scores([body.features])
    return {key: found[0]}


@app.post("/predict_batch")
def predict_batch(body: Rows) -> dict[str, list[float] | list[int]]:
    """Predict many rows."""
    key, found = scores(body.rows)
    return {key: found}


@app.post("/reload")
def reload(path: str | None = None) -> dict[str, str]:
    """Load any file that it is given, or the current one again; one that cannot be loaded ends in 500."""
    service.load(Path(path) if path else service.path)
    return {"status": "reloaded", "model": service.path.name}


@app.get("/metrics")
def metrics() -> None:
    """Fail, as the real service's does."""
    raise HTTPException(500, "no metrics")
