"""The pictures of a rewriter's report with their tables: overview, languages, samples, stages.

Each function takes the judged systems, or the stages' figures, and gives blocks for `detox.rewriter.report`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detox.data.pairs.prepared import Case
from detox.evaluation import plots
from detox.evaluation.masking import excerpt
from detox.evaluation.report import Block, Callout, Cell, Figure, Figures, Table, Text
from detox.rewriter.comparison import System
from detox.rewriter.evaluation import ALL, PRIMARY, Judged
from detox.rewriter.lexicon import Lexicon
from detox.rewriter.samples import samples

MOST_BARS = 6
"""Systems in one bar plot: as many as have a colour."""
FIGURES = {
    "j_2024": "J 2024",
    "j_2025": "J 2025",
    "sta": "STA",
    "sta_2025": "STA 2025",
    "similarity": "SIM",
    "similarity_2025": "SIM 2025",
    "chrf": "chrF",
    "bleu": "BLEU",
    "bert_score": "BERTScore F1",
    "copy_exact": "exact copies",
    "copy": "copies",
    "toxic_copy": "toxic copies",
    "exact_match": "exact match",
    "toxicity_before": "toxicity before",
    "toxicity_after": "toxicity after",
    "length_ratio": "length ratio",
    "fluency": "fluency",
    "bits": "bits a character",
    "facts_kept": "facts kept",
    "words_kept": "words kept",
}
STAGE_FIGURES = {
    "pairs": "pairs",
    "steps": "steps",
    "train_loss": "training loss",
    "loss": "validation loss",
    "perplexity": "perplexity",
    "copy_rate": "exact copies",
    "copy_rate_normalised": "copies",
    "toxic_copy_rate": "toxic copies",
    "exact_match": "exact match",
    "toxicity_before": "toxicity before",
    "toxicity_after": "toxicity after",
    "similarity": "SIM",
    "chrf": "chrF",
    "bleu": "BLEU",
    "bert_score": "BERTScore F1",
    "length_ratio": "length ratio",
    "fluency": "fluency",
    "facts_kept": "facts kept",
    "words_kept": "words kept",
    "joint": "J 2024",
}


def overview_figures(systems: Sequence[System], chosen: System) -> Figures:
    """J against copies of all systems, and toxicity before and after."""
    places = {system.name: (system.judged.mean("copy"), system.judged.mean(PRIMARY)) for system in systems}
    shown = _shown(systems, chosen)
    toxicity = {
        side: [system.judged.mean(figure) for system in shown]
        for side, figure in (("before", "toxicity_before"), ("after", "toxicity_after"))
    }
    names = [system.name for system in shown]
    return Figures(
        [
            Figure(
                "J 2024 against the share of copies; up and left is better.",
                plots.points(places, "tradeoff", x="copies", y="J 2024", marked=chosen.name),
                "Scatter of all systems; the tables give the figures.",
            ),
            Figure(
                "Judged toxicity of sources and outputs.",
                plots.bars(toxicity, names, "toxicity", y="toxicity"),
                f"Bars of the toxicity before and after: {', '.join(names)}.",
            ),
        ]
    )


def language_blocks(systems: Sequence[System], chosen: System, aim: float) -> list[Block]:
    """J and copies of each system by language, and where the chosen one falls short.

    Args:
        aim: greatest share of copies that is wanted.
    """
    langs = chosen.judged.languages
    counts: list[Cell] = [int((chosen.judged.langs_N == lang).sum()) for lang in langs]
    j_rows: list[list[Cell]] = [["texts", *counts]]
    j_rows += [[system.name, *(with_interval(system.judged, PRIMARY, lang) for lang in langs)] for system in systems]
    copy_rows: list[list[Cell]] = [
        [system.name, *(with_interval(system.judged, "copy", lang, percent=True) for lang in langs)]
        for system in systems
    ]
    mine = chosen.judged
    every: list[list[Cell]] = [
        [FIGURES[name], *(with_interval(mine, name, lang) for lang in langs)] for name in mine.rows
    ]
    series = {system.name: [system.judged.mean(PRIMARY, lang) for lang in langs] for system in _shown(systems, chosen)}
    svg = plots.bars(series, langs, "languages", y="J 2024")
    return [
        _shortcomings(systems[1], chosen, aim),
        Table("J 2024 by language (95 %)", ["system", *langs], j_rows),
        Table("Copies by language (95 %)", ["system", *langs], copy_rows),
        Table(f"Everything that was measured of {chosen.name}, by language (95 %)", ["figure", *langs], every),
        Figures([Figure("J 2024 by language.", svg, f"Bars by language of {', '.join(series)}; the table has them.")]),
    ]


def with_interval(mine: Judged, figure: str, lang: str = ALL, *, percent: bool = False) -> str:
    """A mean with its 95 % bootstrap interval; a dash where no row has the figure."""
    found = (mine.mean(figure, lang), *mine.interval(figure, lang))
    if math.isnan(found[0]):
        return "–"
    value, low, high = (format(number, ".1%" if percent else ".3f") for number in found)
    return value if math.isnan(found[1]) else f"{value} ({low}–{high})"


def _shortcomings(delete: System, chosen: System, aim: float) -> Callout:
    """The languages in which the chosen system copies too often, or is below delete."""
    mine, langs = chosen.judged, chosen.judged.languages
    copying = [f"{lang} {mine.mean('copy', lang):.1%}" for lang in langs if mine.mean("copy", lang) > aim]
    below = [
        f"{lang} {mine.mean(PRIMARY, lang):.3f} against {delete.judged.mean(PRIMARY, lang):.3f}"
        for lang in langs
        if mine.mean(PRIMARY, lang) < delete.judged.mean(PRIMARY, lang)
    ]
    said = [f"it copies more than {aim:.0%} in {', '.join(copying)}"] if copying else []
    said += [f"its J is below delete's in {', '.join(below)}"] if below else []
    if not said:
        return Callout(f"In every language {chosen.name} copies at most {aim:.0%}, at a J not below delete's.", "good")
    return Callout(f"{chosen.name} falls short: {'; '.join(said)}.", "warning")


def sample_table(
    systems: Sequence[System], chosen: System, cases: Sequence[Case], lexicon: Lexicon, count: int
) -> list[Block]:
    """Cases with what the chosen system and delete made of them, masked."""
    shown = [system for system in systems if system.name == chosen.name] + [systems[1]]
    found = samples(cases, {system.name: system.judged.outputs for system in shown}, lexicon, count)
    if not found:
        return []
    rows: list[list[Cell]] = [
        [sample.lang, *map(excerpt, (sample.source, sample.reference, *sample.outputs.values()))] for sample in found
    ]
    columns = ["language", "source", "a reference", *(system.name for system in shown)]
    note = (
        "Drawn at random, the languages in turn. Toxic words, and unknown ones that the references take out, are shown "
        "as a letter and asterisks."
    )
    return [Text(note), Table("Test texts and what became of them", columns, rows)]


def stage_blocks(stages: Sequence[Mapping[str, Any]]) -> list[Block]:
    """What each stage left (S2 section 6): a table, losses and copies."""
    if not stages:
        return []
    present = {key: name for key, name in STAGE_FIGURES.items() if any(key in stage for stage in stages)}
    rows: list[list[Cell]] = [[stage["stage"], *(_cell(stage, key) for key in present)] for stage in stages]
    figures = [
        _stage_figure(stages, {"training": "train_loss", "validation": "loss"}, "Loss", "stage-loss"),
        _stage_figure(stages, {"exact": "copy_rate", "normalised": "copy_rate_normalised"}, "Copies", "stage-copies"),
    ]
    drawn = [figure for figure in figures if figure is not None]
    note = (
        "At the end of each stage, on as many validation texts of each language: the model's likeliest text, under the "
        "controls if evaluation.stage_decoding is steered, neither reranked nor edited; with 95 % bootstrap intervals."
    )
    blocks: list[Block] = [Text(note), Table("Stages", ["stage", *present.values()], rows)]
    langs = sorted({key.partition("/")[2] for stage in stages for key in stage if key.startswith("joint/")})
    for key, title in (("joint", "J 2024"), ("copy_rate_normalised", "Copies")) if langs else ():
        by_language: list[list[Cell]] = [
            [stage["stage"], *(_cell(stage, key, f"/{lang}") for lang in langs)] for stage in stages
        ]
        blocks.append(Table(f"{title} by stage and language (95 %)", ["stage", *langs], by_language))
    return [*blocks, Figures(drawn)] if drawn else blocks


def _stage_figure(stages: Sequence[Mapping[str, Any]], keys: Mapping[str, str], what: str, name: str) -> Figure | None:
    series = {
        label: [float(stage.get(key, np.nan)) for stage in stages]
        for label, key in keys.items()
        if any(key in stage for stage in stages)
    }
    if not series:
        return None
    svg = plots.bars(series, [str(stage["stage"]) for stage in stages], name, y=what.lower())
    return Figure(f"{what} by stage.", svg, f"Bars of {', '.join(series)} by stage; the table has the figures.")


def _cell(stage: Mapping[str, Any], key: str, place: str = "") -> Cell:
    """A stage's figure, with its interval where it has one."""
    value, low, high = (stage.get(f"{key}{end}{place}") for end in ("", "_low", "_high"))
    if value is None or low is None:
        return int(value) if value is not None and key in ("pairs", "steps") else value
    return f"{value:.3f} ({low:.3f}–{high:.3f})"


def _shown(systems: Sequence[System], chosen: System) -> list[System]:
    """Copy, delete and the chosen one, and as many others as a bar plot takes, in their order."""
    first = {systems[0].name, systems[1].name, chosen.name}
    others = [system.name for system in systems if system.name not in first]
    kept = first | set(others[: MOST_BARS - len(first)])
    return [system for system in systems if system.name in kept]
