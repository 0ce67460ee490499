"""Which losses a rewriter trains on, as data; `detox.rewriter.losses` turns them into one function."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from detox.runs.config import Config

PARTS: tuple[str, ...] = (
    "cross_entropy",
    "toxic_mass",
    "toxic_classifier",
    "contrast",
    "unlikelihood",
    "consistency",
    "odds_ratio",
    "dpo",
)
"""The losses that are summed; each is also the name of its weight in `LossSettings`."""


class LossSettings(Config):
    """The weight of each loss, 0: off. The default is S2's: cross-entropy alone (S2, trainer, section 7)."""

    cross_entropy: float = Field(default=1.0, ge=0)
    """Negative log-likelihood of the reference, a target token."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of each target that is spread evenly over the vocabulary; of `cross_entropy` only."""
    toxic_mass: float = Field(default=0.0, ge=0)
    """Probability given to toxic tokens, each by its toxicity in 0..1."""
    toxic_classifier: float = Field(default=0.0, ge=0)
    """Toxicity that a frozen classifier reads from the soft output; it is learned from the two sides of the training
    pairs, in the rewriter's own tokens, before the first stage (`detox.rewriter.side_reader`)."""
    contrast: float = Field(default=0.0, ge=0)
    """COUNT (Pour et al. 2023): the reference has to be likelier than a copy of the source."""
    contrast_negatives: Literal["own", "batch"] = "own"
    """`own`: a row's own source; `batch`: the sources of its micro-batch, at the cost of B² decoder rows. With `batch`
    the loss depends on how rows fall into micro-batches, so a full batch is not the sum of its parts."""
    unlikelihood: float = Field(default=0.0, ge=0)
    """Probability of the tokens of the source's toxic spans, wherever the reference does not have them."""
    consistency: float = Field(default=0.0, ge=0)
    """Distance of the soft output from the source, in the model's own encoder."""
    odds_ratio: float = Field(default=0.0, ge=0)
    """ORPO's beta (Hong et al. 2024), beside a `cross_entropy` of 1: the copy is the rejected answer. PAN 2024's winner
    took 0.1."""
    dpo: float = Field(default=0.0, ge=0)
    """Weight of DPO (Rafailov et al. 2023): the copy is the rejected answer."""
    dpo_beta: float = Field(default=0.1, gt=0)
    """How dear it is to leave the reference model."""
    dpo_label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Share of pairs taken to be the wrong way round."""

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each part that is on."""
        return {name: weight for name in PARTS if (weight := getattr(self, name)) > 0}

    @property
    def inputs(self) -> tuple[str, ...]:
        """What a micro-batch must hold beside source, labels and the sizes of the global batch."""
        names = ["toxic_ids"] if self.unlikelihood else []
        names += ["copy_labels"] if self.contrast or self.odds_ratio or self.dpo else []
        names += ["reference_chosen", "reference_rejected"] if self.dpo else []
        return tuple(names)

    @model_validator(mode="after")
    def _something_is_on(self) -> LossSettings:
        if not self.weights:
            raise ValueError(
                f"a loss needs a part with a weight above 0, and all are 0: give one to {', '.join(PARTS)}"
            )
        return self
