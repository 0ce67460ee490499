"""`POST /predict` of Hugging Face's Text Embeddings Inference.

One deliberate difference, which `/info` states: the labels of our models do not exclude each other, so a score is the
sigmoid of its logit, not a softmax over labels. `raw_scores` gives log-odds, as there.

Shapes: N texts, L labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, RootModel

from serve.errors import STATUS, ApiError, ErrorKind, validated
from serve.judge import Judge, Model
from serve.limits import MOST_CHARACTERS, ListOf, check_text

MOST_BATCH = 32
"""Texts a request, TEI's `max_client_batch_size`."""


class PredictRequest(BaseModel):
    """`inputs`: a text, a pair of texts, or a batch of either (lists of one or two)."""

    model_config = ConfigDict(extra="ignore", strict=True)
    inputs: str | ListOf[str] | ListOf[ListOf[str]]
    raw_scores: bool = False
    truncate: bool | None = None
    """Accepted and ignored: a long text is read by windows, to its end."""
    truncation_direction: Literal["Right", "Left", "right", "left"] = "Right"


class Prediction(BaseModel):
    score: float
    label: str


class PredictResponse(RootModel[list[Prediction] | list[list[Prediction]]]):
    """Labels of a text, the highest score first; of a batch a list each."""


async def predict(body: bytes, judge: Judge) -> list[Any]:
    """Labels of a text, or of each, the highest score first.

    Raises:
        ApiError: a body of the wrong shape, a pair, or too many texts.
    """
    request = validated(PredictRequest, body, _refusal)
    texts = _texts(request.inputs)
    scored = await judge.scores(texts)
    answers = [_labels(scores_L, scored.model, raw=request.raw_scores) for scores_L in scored.values_NL]
    return answers if _is_batch(request.inputs) else answers[0]


def _refusal(place: str, fault: Mapping[str, Any]) -> ApiError:
    return ApiError("invalid", f"{place or 'the body'}: {fault['msg']}", param=place)


def _is_batch(inputs: str | list[str] | list[list[str]]) -> bool:
    return isinstance(inputs, list) and (not inputs or isinstance(inputs[0], list))


def _texts(inputs: str | list[str] | list[list[str]]) -> list[str]:
    rows = [inputs] if not _is_batch(inputs) else list(inputs)
    if not rows:
        raise ApiError("invalid", "`inputs` cannot be empty", param="inputs", error_type="empty")
    if len(rows) > MOST_BATCH:
        message = f"batch size {len(rows)} > maximum allowed batch size {MOST_BATCH}"
        raise ApiError("too_large", message, param="inputs")
    texts = []
    for row in rows:
        parts = [row] if isinstance(row, str) else row
        if len(parts) != 1:
            message = "this model judges one text at a time: `inputs` must be a text, or a list of lists of one text"
            raise ApiError("invalid", message, param="inputs")
        check_text(str(parts[0]), "inputs")
        texts.append(str(parts[0]))
    return texts


def _labels(scores_L: np.ndarray, model: Model, *, raw: bool) -> list[dict[str, Any]]:
    values_L = scores_L.astype(np.float64)
    if raw:
        inside_L = np.clip(values_L, 1e-7, 1 - 1e-7)
        values_L = np.log(inside_L / (1 - inside_L))
    ranked = sorted(zip(values_L.tolist(), model.labels, strict=True), reverse=True)
    return [{"score": score, "label": label} for score, label in ranked]


def info(model: Model, most_concurrent: int) -> dict[str, Any]:
    """What TEI's `/info` says of a classifier.

    Args:
        most_concurrent: texts under way at a time.
    """
    numbered = {str(at): label for at, label in enumerate(model.labels)}
    return {
        "model_id": model.name,
        "model_sha": model.version,
        "model_type": {
            "classifier": {"id2label": numbered, "label2id": {label: int(at) for at, label in numbered.items()}}
        },
        "model_dtype": model.dtype,
        "max_concurrent_requests": most_concurrent,
        "max_input_length": MOST_CHARACTERS,  # of tokens, each of which is a character or more
        "max_batch_tokens": model.batch_tokens,
        "max_client_batch_size": MOST_BATCH,
        "auto_truncate": False,
        "tokenization_workers": 1,
        "version": version("toxicity-lab"),
        "scores": "sigmoid of each label: labels do not exclude each other",
    }


TYPES: dict[ErrorKind, str] = {"rate_limited": "overloaded", "unavailable": "overloaded", "internal": "backend"}
STATUSES: dict[ErrorKind, int] = {"unavailable": 429, "invalid": 422, "internal": 424}
"""Where TEI's differ: a request that it cannot read, a full queue, a model that fails."""


def status_and_body(error: ApiError) -> tuple[int, dict[str, Any]]:
    """HTTP status and body of an error, as TEI answers."""
    kind = error.detail.get("error_type", TYPES.get(error.kind, "validation"))
    status = STATUS[error.kind] if kind == "empty" else STATUSES.get(error.kind, STATUS[error.kind])
    return status, {"error": error.message, "error_type": kind}
