"""The report on rewriters: do they rewrite better than copying and deleting do, and how (S2 sections 5, 6 and 9).

`comparison_report` composes a `detox.evaluation.report.Report`; the sections are functions from the judged systems to
blocks, in the order of the page. Pictures, samples and training are in `detox.rewriter.report_sections`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from detox.classifier.report import RunFacts
from detox.classifier.report_sections import training_curves
from detox.data.pairs.card import RULES
from detox.data.pairs.prepared import Case
from detox.evaluation.judges import Judges
from detox.evaluation.report import Block, Callout, Cell, Code, Report, Table, Text, Tile, Tiles, Tone, key_values
from detox.rewriter.comparison import System, primary_of, verdict
from detox.rewriter.evaluation import ALL, EACH, LEAST_TEXTS, PRIMARY, Judged
from detox.rewriter.lexicon import Lexicon
from detox.rewriter.report_sections import (
    FIGURES,
    language_blocks,
    overview_figures,
    sample_table,
    stage_blocks,
    with_interval,
)

S2_BASELINE, S2_TARGET, S2_AIM = 0.72, 0.25, 0.10
"""S2 5.1: the share of outputs that its baseline copied, what it wants to be below, and ideally."""
MEANING = (
    "STA: probability that the output is neutral. SIM: similarity of source and output. chrF, BLEU, BERTScore and "
    "exact match: against the nearest reference; within J, chrF against the first, as in PAN. Copies: the source "
    "again, but for case, punctuation and white space; toxic copies: of sources that the judge finds toxic. Bits: the "
    "fewer, the more ordinary the output. Facts: names, numbers and links of the source, names being capitalised "
    "words within a sentence, so scripts without capitals have none; words: those of its words that are not toxic. A "
    "dash: no judge at hand, or nothing to count."
)
SYNTHETIC_NOTICE = (
    "The pairs of this run are synthetic, written by templates. Its figures show that the machinery works and say "
    "nothing about real text."
)
MOST_COLUMNS = 8
"""Systems beside each other in a table; of more each has a row."""
OVER = {ALL: "all texts", EACH: "the languages"}
TONES: dict[str, Tone] = {"better": "good", "worse": "bad", "undecided": "warning"}


def synthetic_notices(pairs: Mapping[str, Any]) -> tuple[str, ...]:
    """What every reader must see first where pairs (the facts of prepared ones) were made, not collected."""
    return (SYNTHETIC_NOTICE,) if any(origin["synthetic"] for origin in pairs["origins"]) else ()


def comparison_report(
    systems: Sequence[System],
    cases: Sequence[Case],
    judges: Judges,
    stages: Sequence[Mapping[str, Any]],
    facts: RunFacts,
    *,
    primary: str = "",
    lexicon: Lexicon | None = None,
    samples: int = 12,
    losses: Mapping[str, float] | None = None,
    sections: Mapping[str, Sequence[Block | None]] | None = None,
) -> Report:
    """The report's sections, ready to `render()`.

    Args:
        systems: copy and delete first, then the rewriters' variants, all on the same cases.
        cases: what was rewritten.
        judges: who judged; their names stand beside the figures.
        stages: figures of each stage of a training, `stage` its name; empty: there was none.
        facts: of the run; `dataset` is the `pairs.json` of the prepared pairs.
        primary: name of the system that the verdict is about; empty: the last.
        lexicon: knows the words to mask in the samples; None: learned from the cases themselves.
        samples: cases shown with what became of them.
        losses: of each rewriter on the references (`detox.rewriter.reference_loss`).
        sections: of this job's own, by title, shown behind the result.

    Raises:
        ValueError: nothing but the baselines, or a primary system that is not there.
    """
    chosen = primary_of(systems, primary)
    known = lexicon or Lexicon.fit((case.lang, case.source, one) for case in cases for one in case.references)
    report = Report(f"Rewriting: {facts.name}", _subtitle(chosen, cases))
    report.add("Result", *(Callout(notice, "warning") for notice in facts.notices), *_result(systems, chosen))
    for title, blocks in (sections or {}).items():
        report.add(title, *blocks)
    report.add("All figures", *_figures(systems, judges), _losses(losses or {}), overview_figures(systems, chosen))
    report.add("By language", *language_blocks(systems, chosen, S2_AIM))
    report.add("What is sure", *_significance(systems, chosen))
    report.add("How the outputs were made", _how(systems))
    report.add("Samples", *sample_table(systems, chosen, cases, known, samples))
    report.add("Stages of the training", *stage_blocks(stages))
    report.add("Training", training_curves(facts.events))
    report.add("Data", *_data(facts.dataset))
    report.add("How to make it again", *_reproduction(facts))
    return report


def _subtitle(chosen: System, cases: Sequence[Case]) -> str:
    langs = chosen.judged.languages
    return f"{chosen.name} on {len(cases):,} texts in {', '.join(langs)}"


def _result(systems: Sequence[System], chosen: System) -> list[Block | None]:
    mine = chosen.judged
    return [
        Callout(verdict(systems, chosen.name), _tone(systems, chosen)),
        Callout(_about_copies(mine), _copy_tone(mine.mean("copy"))),
        Tiles(
            [
                _tile(mine, PRIMARY, f"copy {_number(systems[0].judged.mean(PRIMARY))}"),
                _tile(mine, "j_2025", f"copy {_number(systems[0].judged.mean('j_2025'))}"),
                Tile("Copies", f"{mine.mean('copy'):.1%}", f"S2's baseline {S2_BASELINE:.0%}"),
                _tile(mine, "toxicity_after", f"before {_number(mine.mean('toxicity_before'))}"),
                _tile(mine, "similarity", f"delete {_number(systems[1].judged.mean('similarity'))}"),
            ]
        ),
    ]


def _tone(systems: Sequence[System], chosen: System) -> Tone:
    """Good only where both baselines are beaten, over all texts and over the languages; bad where one of them wins."""
    found = {
        chosen.judged.better_than(system.judged, lang=lang).verdict for system in systems[:2] for lang in (ALL, EACH)
    }
    return TONES[next(word for word in ("worse", "undecided", "better") if word in found)]


def _about_copies(mine: Judged) -> str:
    share, (low, high) = mine.mean("copy"), mine.interval("copy")
    if share <= S2_AIM:
        reached = f"which reaches what S2 ideally wants, {S2_AIM:.0%}"
    elif share <= S2_TARGET:
        reached = (
            f"which is below the {S2_TARGET:.0%} that S2 sets, and not below the {S2_AIM:.0%} that it ideally wants"
        )
    else:
        reached = f"which misses the {S2_TARGET:.0%} that S2 sets"
    return (
        f"{share:.1%} of the outputs ({low:.1%} to {high:.1%}) are their source again, {reached}; S2's baseline copied "
        f"{S2_BASELINE:.0%}. {mine.mean('toxic_copy'):.1%} are copies of sources that are toxic."
    )


def _copy_tone(share: float) -> Tone:
    return "good" if share <= S2_AIM else "warning" if share <= S2_TARGET else "bad"


def _tile(mine: Judged, figure: str, note: str) -> Tile:
    name = FIGURES[figure]
    return Tile(name[0].upper() + name[1:], _number(mine.mean(figure)), note)


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _figures(systems: Sequence[System], judges: Judges) -> list[Block]:
    copied = systems[0].judged.mean(PRIMARY)
    alike = (ALL, EACH) if len(systems[0].judged.counted) > 1 else (ALL,)
    main: list[list[Cell]] = []
    for system in systems:
        mine = system.judged
        lift = mine.mean(PRIMARY) - copied
        joint: list[Cell] = [with_interval(mine, figure, over) for figure in (PRIMARY, "j_2025") for over in alike]
        main.append([system.name, joint[0], f"{lift:+.3f}", *joint[1:], with_interval(mine, "copy", percent=True)])
    joints = [f"{year}{'' if over == ALL else f', {EACH}'} (95 %)" for year in ("J 2024", "J 2025") for over in alike]
    columns = ["system", joints[0], "lift over copy", *joints[1:], "copies (95 %)"]
    others = [name for name in FIGURES if name not in (PRIMARY, "j_2025", "copy")]
    across = [system.name for system in systems]
    rows: list[list[Cell]] = [
        [FIGURES[name], *(with_interval(system.judged, name) for system in systems)] for name in others
    ]
    head = "figure"
    if len(systems) > MOST_COLUMNS:
        rows = [[name, *(row[at] for row in rows)] for at, name in enumerate(across, 1)]
        across, head = [FIGURES[name] for name in others], "system"
    said = "; ".join(f"{role.replace('_', ' ')}: {name}" for role, name in judges.names().items())
    return [
        Text(
            "J is PAN's joint score, the mean over texts of a product: in 2024 STA · SIM · chrF, in 2025 an STA and an "
            "SIM that look at the reference too, and fluency. That of 2025 rewards copying (copies scored 0.475 in the "
            "shared task), so that of 2024 leads here. The shared tasks rank by the mean of the languages, with "
            "judges of each year's own: only those of pan2024 make J 2024 official, and of pan2025 J 2025. Intervals "
            "are of 1,000 bootstrap resamples of the texts, of each language by itself where it is their mean, "
            f"in which languages of less than {LEAST_TEXTS} texts do not count."
        ),
        Table("J and copies", columns, main, f"Judges: {said}. Figures by other judges do not compare."),
        Table("Everything that was measured (95 %)", [head, *across], rows, MEANING),
    ]


def _losses(losses: Mapping[str, float]) -> Table | None:
    rows: list[list[Cell]] = [
        [name, loss, math.exp(min(loss, 50.0))] for name, loss in losses.items() if not math.isnan(loss)
    ]
    note = (
        "Negative log-likelihood a token of the references, all tokens before it given. S2's baseline had 1.49 and "
        "4.4, and copied; models with different tokenizers do not compare."
    )
    return (
        Table("How likely the models find the references", ["rewriter", "loss", "perplexity"], rows, note)
        if rows
        else None
    )


def _significance(systems: Sequence[System], chosen: System) -> list[Block]:
    rows: list[list[Cell]] = []
    aggregates = (ALL, EACH) if len(chosen.judged.counted) > 1 else (ALL,)
    for system in systems:
        for over in aggregates if system.name != chosen.name else ():
            found = chosen.judged.better_than(system.judged, lang=over)
            interval = f"{found.low:+.4f} to {found.high:+.4f}"
            rows.append([system.name, OVER[over], f"{found.difference:+.4f}", interval, found.p_value, found.verdict])
    columns = ["against", "J over", "difference", "95 %", "p", f"{chosen.name} is"]
    note = "Paired bootstrap over the texts, 1,000 resamples, two-sided; p is not corrected for the number of rows."
    return [Table(f"{chosen.name} against every other system, J 2024", columns, rows, note)]


def _how(systems: Sequence[System]) -> Table:
    kinds = list(dict.fromkeys(kind for system in systems for kind in system.counts))
    rows: list[list[Cell]] = [[system.name, *(system.counts.get(kind, 0) for kind in kinds)] for system in systems]
    note = (
        "model: its likeliest text; reranked: another of its candidates; edited: the toxic words cut out; "
        "unchanged: toxic, and there was nothing better; already neutral: left as it was; copied: the baseline."
    )
    return Table("Outputs by the way they were made", ["system", *kinds], rows, note)


def _data(dataset: Mapping[str, Any]) -> list[Block | None]:
    if not dataset:
        return []
    origins = [[str(o.get(key, "")) for key in ("name", "licence", "revision")] for o in dataset["origins"]]
    refused: list[list[Cell]] = [
        [rule, pairs, RULES.get(rule, "")] for rule, pairs in dataset.get("refused", {}).items()
    ]
    return [
        key_values("Pairs of each part", ("part", "pairs"), dataset["pairs"]),
        key_values("Pairs of each language", ("language", "pairs"), dataset["by_language"]),
        key_values("Pairs of each level", ("level", "pairs"), dataset["by_level"]),
        Table("Sources", ["source", "licence", "revision"], origins),
        Table("Refused pairs", ["rule", "pairs", "meaning"], refused) if refused else None,
        Text("The data card (README.md beside the pairs) shows the difficulties and masked examples of each level."),
    ]


def _reproduction(facts: RunFacts) -> list[Block | None]:
    environment = facts.environment
    machine = {key: str(environment[key]) for key in ("python", "platform", "cpus", "gpus") if key in environment}
    commit = environment.get("git", {}).get("commit")
    versions = machine | ({"commit": commit} if commit else {}) | dict(environment.get("packages", {}))
    config = json.dumps(facts.config, indent=2, ensure_ascii=False)
    return [
        Code("Command", facts.command),
        key_values("Environment", ("what", "version"), versions) if versions else None,
        Code("Full config", config, folded=True) if facts.config else None,
    ]
