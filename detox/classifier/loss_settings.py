"""Which loss a classifier trains on, as data; `detox.classifier.losses` turns it into a function."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from detox.runs.config import Config


class LossSettings(Config):
    """The loss of a classifier and its weights."""

    name: Literal["bce", "weighted_bce", "focal", "mse"] = "bce"
    """`bce`: binary cross-entropy; `weighted_bce`: S3 section 4, which weighs labels, not positives; `focal`: Lin et
    al. 2017; `mse`: squared error behind a sigmoid, for regressors (S1 step 7)."""
    focal_gamma: float = Field(default=2.0, ge=0)
    """Focusing exponent of `focal`; 0 is `bce`. Lin et al. 2017 use 2."""
    balance_positives: bool = False
    """Weigh the positives of each label by negatives/positives of the training rows (`bce` and `weighted_bce`)."""

    @model_validator(mode="after")
    def _positives_need_cross_entropy(self) -> LossSettings:
        if self.balance_positives and self.name not in {"bce", "weighted_bce"}:
            raise ValueError(f"balance_positives needs the loss bce or weighted_bce, and the loss is {self.name!r}")
        return self
