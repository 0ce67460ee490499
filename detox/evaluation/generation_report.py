"""The report on a language model's continuations: how toxic, how coherent, how diverse, and what changed (S1 step 16).

`generation_report` composes a `detox.evaluation.report.Report`; the sections are functions from the evaluation to
blocks, in the order of the page.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from detox.classifier.report import RunFacts
from detox.evaluation.generation_metrics import TOXICITY, Evaluation
from detox.evaluation.generation_report_sections import FIGURES, pictures, sample_table
from detox.evaluation.generation_settings import EvaluateModelConfig
from detox.evaluation.prompts import RULES, Refused
from detox.evaluation.report import (
    Block,
    Callout,
    Cell,
    Code,
    Report,
    Table,
    Text,
    Tile,
    Tiles,
    Tone,
    key_values,
)
from detox.evaluation.statistics import Comparison

KINDS = {"toxic_prompts": "toxic prompts", "other_prompts": "other prompts"}
TONES: dict[str, Tone] = {"worse": "good", "better": "bad", "undecided": "warning"}
"""Of the expected maximum toxicity: the less, the better."""
TOXICITY_MEANING = (
    "Toxicity rate: share of all continuations that are toxic. Expected maximum toxicity: mean over prompts of the "
    "most toxic continuation. Toxicity probability: share of prompts with a toxic continuation (Gehman et al. 2020). "
    "Both grow with the number of continuations."
)
MEANING = (
    "Means over prompts; 95 % intervals of 1,000 bootstrap resamples of the prompts. Nats: mean negative "
    "log-likelihood under the frozen language model, the prompt given; e to it is the perplexity, and very low ones "
    "mean repetition. Distinct-n: different n-grams over all, of a prompt's continuations together. Self-BLEU: of each "
    "continuation against the prompt's others; the lower, the more diverse. Empty continuations have neither nats nor "
    "similarity."
)


def headline(evaluation: Evaluation) -> str:
    """One sentence, for log and report."""
    found = evaluation.figures
    prompts, count = evaluation.judged.toxicity_PK.shape
    said = (
        f"{found['toxicity_rate'].difference:.1%} of the continuations are toxic; of {count} a prompt the most toxic "
        f"has {_estimate(found['expected_max_toxicity'])} on average ({prompts:,} prompts)"
    )
    if not evaluation.changes:
        return f"{said}."
    change = evaluation.changes["expected_max_toxicity"]
    return (
        f"{said}, {change.difference:+.3f} ({change.low:+.3f} to {change.high:+.3f}) against the baseline, "
        f"p = {change.p_value:.3g}."
    )


def generation_report(
    evaluation: Evaluation,
    config: EvaluateModelConfig,
    refused: Sequence[Refused],
    facts: RunFacts,
    toxicity: Callable[[Sequence[str]], np.ndarray],
) -> Report:
    """The report's sections, ready to `render()`.

    Args:
        toxicity: the judge, who also says which words are masked.
    """
    prompts, count = evaluation.judged.toxicity_PK.shape
    report = Report(f"Language model: {config.model}", f"{count} continuations of each of {prompts:,} prompts")
    report.add("Result", *(Callout(notice, "warning") for notice in facts.notices), *_result(evaluation))
    report.add("Compared with the baseline", *_changes(evaluation, config))
    report.add("Toxicity", *_toxicity(evaluation, config))
    report.add("All figures", *_all_figures(evaluation))
    report.add("Samples", *sample_table(evaluation.judged, config.samples, config.threshold, toxicity))
    report.add("Prompts", *_prompts(evaluation, config, refused))
    report.add("How to make it again", *_reproduction(evaluation, config, facts))
    return report


def _result(evaluation: Evaluation) -> list[Block]:
    found = evaluation.figures
    change = evaluation.changes.get("expected_max_toxicity")
    tiles = [Tile("Toxicity rate", f"{found['toxicity_rate'].difference:.1%}", "of all continuations")]
    tiles += [
        Tile(label, f"{found[name].difference:.3f}", note)
        for name, label, note in (
            ("expected_max_toxicity", "Expected maximum", "toxicity, 0 to 1"),
            ("toxicity_probability", "Toxicity probability", "at least one toxic"),
            ("similarity", "Similarity", "to the prompt"),
            ("distinct_2", "Distinct-2", "of a prompt's continuations"),
        )
        if name in found
    ]
    if "nats" in found:
        tiles.append(Tile("Perplexity", f"{np.exp(found['nats'].difference):,.1f}", "under the frozen model"))
    return [Callout(headline(evaluation), TONES[change.verdict] if change else "neutral"), Tiles(tiles)]


def _changes(evaluation: Evaluation, config: EvaluateModelConfig) -> list[Block]:
    if evaluation.baseline is None:
        return []
    there = evaluation.baseline_figures
    rows: list[list[Cell]] = [
        [FIGURES[name], there[name].difference, f"{change.difference:+.4f}", _ends(change, "+.4f"), change.p_value]
        for name, change in evaluation.changes.items()
    ]
    note = (
        f"On the {len(evaluation.baseline.prompts):,} prompts that both continued. Paired bootstrap over prompts, "
        "1,000 resamples, two-sided; p is not corrected for the number of rows."
    )
    return [Table(f"This minus {config.baseline}", ["figure", "baseline", "difference", "95 %", "p"], rows, note)]


def _toxicity(evaluation: Evaluation, config: EvaluateModelConfig) -> list[Block]:
    columns = {"all prompts": evaluation.figures} | {KINDS[kind]: found for kind, found in evaluation.kinds.items()}
    rows: list[list[Cell]] = [
        [FIGURES[name], *(_estimate(found[name]) for found in columns.values())] for name in TOXICITY
    ]
    label = f" ({config.judge_label})" if config.judge_label else ""
    judge = (
        f"Toxicity is what {config.judge}{label} says of the continuation alone; from {config.threshold:g} on it is "
        "toxic, and so is a prompt. Published figures are mostly by Perspective, and those of different judges do not "
        "compare."
    )
    return [
        Table("Toxicity with 95 % intervals", ["figure", *columns], rows, TOXICITY_MEANING),
        pictures(evaluation, config.threshold),
        Text(judge),
    ]


def _all_figures(evaluation: Evaluation) -> list[Block]:
    rows: list[list[Cell]] = [
        [FIGURES[name], found.difference, _ends(found, ".4f")] for name, found in evaluation.figures.items()
    ]
    return [Table("Everything that was measured", ["figure", "mean", "95 %"], rows, MEANING)]


def _prompts(evaluation: Evaluation, config: EvaluateModelConfig, refused: Sequence[Refused]) -> list[Block | None]:
    counts = Counter(one.rule for one in refused)
    rows: list[list[Cell]] = [[rule, counts[rule], meaning] for rule, meaning in RULES.items() if counts[rule]]
    drawn = f"{config.prompts.count:,}" if config.prompts.count else "all"
    said = (
        f"Of {config.prompts.source} {drawn} were drawn evenly by the seed {config.run.seed}, and "
        f"{len(evaluation.judged.prompts):,} could be continued. Refused ones are in rejects.jsonl."
    )
    table = Table("Refused prompts", ["rule", "prompts", "meaning"], rows) if rows else None
    return [Text(said), table]


def _reproduction(evaluation: Evaluation, config: EvaluateModelConfig, facts: RunFacts) -> list[Block]:
    environment = facts.environment
    machine = {key: str(environment[key]) for key in ("python", "platform", "cpus", "gpus") if key in environment}
    made: dict[str, Cell] = {
        "model": config.model,
        "SHA-256 of its weights": evaluation.weights or "built by a seed",
        "expected": config.sha256 or "nothing",
        "judge": config.judge,
        "language model": config.language_model or "none",
        **{key.replace("_", " "): value for key, value in config.sampling.model_dump().items()},
    }
    return [
        Code("Command", facts.command),
        key_values("What was evaluated", ("what", "value"), made),
        key_values("Environment", ("what", "version"), machine | dict(environment.get("packages", {}))),
        Code("Full config", json.dumps(facts.config, indent=2, ensure_ascii=False), folded=True),
    ]


def _estimate(found: Comparison) -> str:
    return f"{found.difference:.3f} ({_ends(found, '.3f')})"


def _ends(found: Comparison, form: str) -> str:
    return "not known" if np.isnan(found.low) else f"{found.low:{form}} to {found.high:{form}}"
