"""§7: have the restarted API make one prediction, which proves that it serves a model."""

import json
from dataclasses import dataclass
from typing import Any

import httpx

from tasks.custody.models.canary import row_of
from tasks.custody.models.contract import prediction_in
from tasks.recovery.api_client import Api, ApiResponse, NotRecovered, advice, failure


@dataclass(frozen=True)
class Prediction:
    """Result of a canary prediction: the answer, or why it proves nothing."""

    answer: str = ""
    unproven: str = ""


def try_prediction(api: Api, *, is_known: bool) -> Prediction:
    """Make one prediction; where no model is known only by canary_request, and no failure then ends the recovery."""
    if is_known:
        return predict(api)
    if api.block.canary_request is None:
        return Prediction(unproven="that it predicts: not asked without a known model or a canary_request 予測は未確認")
    try:
        return predict(api)
    except NotRecovered as error:
        return Prediction(unproven=f"that it predicts: {error.got}")


def predict(api: Api) -> Prediction:
    """Make one prediction, from the block's canary_request or else a row made from /schema.

    Raises NotRecovered if the API has no model (503) or does not answer. Any other answer without a prediction proves
    nothing, and the result says why. If /schema names no columns the row is empty; an API may accept that.
    """
    block, why = api.block, ""
    request: Any = block.canary_request
    if request is None:
        schema = api.ask("GET", "/schema")
        _require_model(schema)
        row = row_of(schema.content) if schema.good else {}
        request = {"features": row}
        why = "" if row else f"/schema names no columns ({schema.summary}), "
    answer = api.ask("POST", block.predict_path, json=request)
    _require_model(answer)
    prediction = prediction_in(answer.content, block.prediction_at) if answer.good else None
    if prediction is not None:
        return Prediction(answer.redact(json.dumps(prediction)))
    if answer.status == httpx.codes.UNPROCESSABLE_ENTITY:
        why += "it refuses the row that we made up, " if block.canary_request is None else "it refuses canary_request, "
    return Prediction(unproven=f"that it predicts: {why}{answer.summary}{advice(answer)}")


def _require_model(answer: ApiResponse) -> None:
    if answer.status in {0, httpx.codes.SERVICE_UNAVAILABLE}:
        raise failure("the API to have a model loaded", answer.summary)
