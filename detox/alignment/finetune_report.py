"""What a tuning shows: what changed from before to after, how the training went, samples, and the model's card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from detox.alignment.report import parts_figure
from detox.alignment.responses_report import RESPONSE_NAMES, response_blocks
from detox.classifier.report import RunFacts, data_blocks, reproduction_blocks
from detox.evaluation import plots
from detox.evaluation.masking import Mask, excerpt
from detox.evaluation.report import Block, Callout, Cell, Figure, Figures, Report, Table, Tone, format_cell
from detox.models.loading import LoadedModel

if TYPE_CHECKING:
    from detox.alignment.finetune_finish import Outcome, TuningConfig

SAMPLES = 8
NAMES = {
    "toxicity": "Toxicity of responses, mean by the judge",
    "nats": "Nats a token of the data's responses, mean of texts",
    "perplexity": "Perplexity of the data's responses",
    "ngram_perplexity": "Perplexity of the same, of an n-gram model of the training part",
    "below_ngram": "Nats a token below the n-gram model's, mean of texts",
    "kl": "KL to the beginning, nats a token of own responses",
    "distinct_2": "Different bigrams, share",
    "lora_norm": "Norm of the adapters",
    "preference_accuracy": "Better response of a pair preferred, share",
    "margin": "Score of the better response over the other's",
    "pairs_too_long": "Pairs that the model cannot read whole, left out here",
} | RESPONSE_NAMES
COUNTS = ("toxic_prompts", "pairs_too_long")
LESS_IS_BETTER = ("toxicity", "nats")
MAIN = {"sft": "nats", "dpo": "preference_accuracy", "kto": "preference_accuracy", "reward": "preference_accuracy"}
"""The figure by which a method is judged; of the others `toxicity`, where there is a judge."""
CURVES = {
    "loss": "Loss",
    "reward": "Reward of the responses",
    "rewards/accuracies": "Better response preferred, share of a batch",
    "kl": "KL to the reference, as the training estimates it",
    "entropy": "Entropy, nats a token",
    "length": "Length of responses, tokens",
    "grad_norm": "Norm of the gradient",
    "mean_token_accuracy": "Tokens said right, share",
}


def main_figure(outcome: Outcome, config: TuningConfig) -> str:
    wanted = MAIN.get(config.method, "toxicity")
    return wanted if wanted in outcome.changes else next(iter(outcome.changes), "")


def headline(outcome: Outcome, config: TuningConfig) -> str:
    """One sentence on the figure by which the method is judged."""
    figure = main_figure(outcome, config)
    if not figure:
        return "Nothing of the test part could be compared."
    change = outcome.changes[figure]
    after = format_cell(outcome.after[figure])
    interval = f"{change.low:+.4f} to {change.high:+.4f}, 95 %"
    if figure == "preference_accuracy":
        return f"On unseen pairs the better response is preferred in {after} of cases ({interval} against guessing)."
    said = f"{NAMES[figure]}, on unseen text: {format_cell(outcome.before[figure])} before, {after} after ({interval})."
    if (ngram := outcome.after.get("ngram_perplexity")) is None:
        return said
    perplexity = format_cell(outcome.after["perplexity"])
    return f"{said} Perplexity {perplexity}; an n-gram model of the same training texts has {format_cell(ngram)}."


def finetune_report(outcome: Outcome, facts: RunFacts, config: TuningConfig, table: pa.Table) -> Report:
    """The page, ready to `render()`."""
    report = Report(facts.name, f"{config.method.upper()} of {config.model.name}")
    report.add("Result", Callout(headline(outcome, config), tone_of(outcome, config)), figures_table(outcome))
    report.add("Responses beside the data's", *response_blocks(outcome.responses))
    needed = "reward" if config.method == "ppo" else "loss"
    parts = parts_figure([event for event in facts.events if event["event"] == "train" and "reward" in event])
    curves = training_figures(facts.events, "train", CURVES, needed)
    report.add("Training", curves, Figures([parts]) if parts else None)
    monitored = {name: title for name, title in NAMES.items() if name != "nats"}
    report.add("Monitors", training_figures(facts.events, "monitor", monitored, "perplexity"))
    if facts.masked_words and "before" in table.column_names:
        report.add("Samples", samples_table(table, facts.masked_words))
    report.add("Data", *data_blocks(facts.dataset))
    report.add("How to make it again", *reproduction_blocks(facts))
    return report


def tone_of(outcome: Outcome, config: TuningConfig) -> Tone:
    if outcome.responses is not None and outcome.responses.broken:
        return "bad"
    figure = main_figure(outcome, config)
    if not figure:
        return "warning"
    verdict = outcome.changes[figure].verdict
    if verdict == "undecided":
        return "warning"
    return "good" if (verdict == "worse") == (figure in LESS_IS_BETTER) else "bad"


def figures_table(outcome: Outcome) -> Table:
    rows: list[list[Cell]] = []
    for name, title in NAMES.items():
        if name in outcome.after:
            change = outcome.changes.get(name)
            interval = f"{change.low:+.4f} to {change.high:+.4f}" if change else ""
            figures: list[Cell] = [outcome.before.get(name), outcome.after[name]]
            if name in COUNTS:
                figures = [None if value is None else int(value) for value in figures]  # type: ignore[arg-type]
            rows.append([title, *figures, interval])
    note = (
        "On the test part. Changes: paired bootstrap over prompts or examples, 1,000 resamples; of the share of pairs "
        "the difference from guessing."
    )
    return Table("Before and after", ["figure", "before", "after", "change, 95 %"], rows, note)


def training_figures(
    events: Sequence[Mapping[str, Any]], kind: str, titles: Mapping[str, str], needed: str
) -> Figures | None:
    """Curves of an event's figures over the steps; of those that some event has."""
    lines = [event for event in events if event["event"] == kind and needed in event]
    figures = []
    for name, title in titles.items():
        steps = np.array([line["step"] for line in lines if line.get(name) is not None])
        if len(steps) > 1:
            values = np.array([line[name] for line in lines if line.get(name) is not None], np.float64)
            svg = plots.curves({name: (steps, values)}, f"{kind}-{name.replace('/', '-')}", x="step", y=name)
            figures.append(Figure(f"{title}.", svg, f"{title}, over the steps."))
    return Figures(figures) if figures else None


def samples_table(table: pa.Table, masked_words: Sequence[str]) -> Block:
    mask = Mask(masked_words)
    rows: list[list[Cell]] = [
        [excerpt(mask(row["prompt"])), excerpt(mask(row["before"])), excerpt(mask(row["after"]))]
        for row in table.slice(0, SAMPLES).to_pylist()
    ]
    return Table("What the model says", ["prompt", "before", "after"], rows, "The first test prompts; words masked.")


def card(outcome: Outcome, facts: RunFacts, config: TuningConfig, loaded: LoadedModel) -> str:
    """README.md of the artifact."""
    base = f"{loaded.name} at {loaded.revision}" if loaded.revision else loaded.name
    sources = "; ".join(f"{one['name']} ({one['licence']})" for one in facts.dataset.get("sources", ()))
    rows = "".join(
        f"| {title} | {format_cell(outcome.before.get(name))} | {format_cell(outcome.after[name])} |\n"
        for name, title in NAMES.items()
        if name in outcome.after
    )
    front = (f"base_model: {loaded.name}\n" if loaded.revision else "") + f"tags: [{config.method}]\n"
    return (
        f"---\n{front}---\n\n# {facts.name}\n\n{headline(outcome, config)}\n\n"
        f"{config.method.upper()} of {base}, on {sources}.\n\n| on the test part | before | after |\n|---|---:|---:|\n"
        f"{rows}\nMade by:\n\n```\n{facts.command}\n```\n\nThe licences of data and base model hold for the weights. "
        "Figures are of the data above and say nothing of other text.\n"
    )
