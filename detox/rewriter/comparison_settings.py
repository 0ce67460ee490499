"""What is compared with what, as data: `rayjobs.evaluate rewriters` and the report after training. No torch in here."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, field_validator

from detox.data.pairs.settings import PairSettings
from detox.rewriter.remote_settings import RemoteSettings
from detox.runs.config import JobConfig, ScalingSettings

Variant = Literal["greedy", "steered", "reranked", "full"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)


def each_once(variants: tuple[Variant, ...]) -> tuple[Variant, ...]:
    """Raises:
    ValueError: none, or one twice.
    """
    if not variants or len(set(variants)) < len(variants):
        raise ValueError(f"variants must name at least one of {', '.join(VARIANTS)}, each once: {variants}")
    return variants


class EvaluateRewritersConfig(JobConfig):
    """Which rewriters, in which decodings, on which texts, judged by whom."""

    rewriters: tuple[str, ...] = ()
    """Run directories of `train_rewriter`, or their artifacts; the verdict is about the last."""
    remote: RemoteSettings = RemoteSettings()
    """An endpoint whose answers, as they come, are a system of their own beside copy and delete: `remote`."""
    endpoint: str = ""
    """URL of a service of ours, whose rewriter as it is deployed is the `remote` system, with no further settings but
    `remote.limits`. Its API key, where it has keys, is read from the environment variable `DETOX_ENDPOINT_KEY`."""
    endpoint_version: str = ""
    """Version of that rewriter; filled in."""
    variants: tuple[Variant, ...] = VARIANTS
    """`greedy`: the model's likeliest text; `steered`: with the decoding controls; `reranked`: its candidates reranked,
    without the controls; `full`: all of it."""
    primary: str = ""
    """System of the verdict, `<rewriter>/<variant>` or `remote`; empty: the last rewriter in the last variant."""
    data: PairSettings = PairSettings()
    """What is tested on: the test part of these pairs. A folder of prepared pairs is one too."""
    all_rows_are_test: bool = False
    """The pairs of `data` are a test file: all of them are test, and none is refused by a rule that judges
    its meaning (over-long ones are, and those with a missing side)."""
    learn_from: PairSettings = PairSettings()
    """Pairs from which the offline judges are learned, and delete's lexicon where the verdict is about an endpoint
    (else it is the rewriter's own); without a source: those of `data`."""
    judges: str = "offline"
    """`offline`; `pan2024` or `pan2025`, the shared tasks' own models; or a classifier of neutrality by any name that
    `detox classify --model` takes."""
    embed_english: bool = True
    """Offline: similarity of English texts, and BERTScore, by the embedded MiniLM."""
    samples: int = Field(default=12, ge=0)
    """Test texts in the report with what became of them, masked."""
    scaling: ScalingSettings = ScalingSettings(num_workers=0)
    """Without workers it runs in this process; with them as one task on Ray that has their CPUs, or a GPU."""

    _variants = field_validator("variants")(each_once)
