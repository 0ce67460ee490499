"""Which scorer is measured on which comments, as data. No torch in here."""

from __future__ import annotations

from pydantic import model_validator

from detox.data.settings import DataSettings
from detox.runs.config import JobConfig


class EvaluateScorerConfig(JobConfig):
    """Which scorer, on which comments."""

    endpoint: str = ""
    """URL of a running service; its API key, if any, in the environment variable DETOX_ENDPOINT_KEY."""
    model: str = ""
    """In place of an endpoint: a scorer by any name that `detox classify --model` takes."""
    data: DataSettings = DataSettings()
    all_rows: bool = False
    """Measure on all rows: the data are a test file. Else on their test part."""

    @model_validator(mode="after")
    def _one_of_both(self) -> EvaluateScorerConfig:
        if self.endpoint and self.model:
            raise ValueError("endpoint and model are two scorers, and one is measured at a time: leave one out")
        return self


def scorer_name(config: EvaluateScorerConfig) -> str:
    """Raises:
    ValueError: neither an endpoint nor a model.
    """
    if not (config.endpoint or config.model):
        raise ValueError("nothing to measure: name a running service with --endpoint, or a scorer with --model")
    return f"endpoint:{config.endpoint}" if config.endpoint else config.model
