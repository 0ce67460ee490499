"""Several ways of rewriting the same texts, judged alike: a trained rewriter in several decodings, copy and delete.

A variant is a rewriter with other settings: the model's likeliest text alone (`greedy`), the same with the decoding
controls (`steered`), its own candidates reranked without the controls (`reranked`), and all of it (`full`). What each
adds is then the difference of two variants. The last two may edit where no candidate will do, and say so.

Shapes: N texts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from detox.classifier.evaluation import p_value_text
from detox.classifier.scorer import check_toxicity
from detox.data.pairs.prepared import Case, PairRow
from detox.evaluation.judges import Judges, named_neutrality, offline_judges
from detox.evaluation.pan_judges import PAN, check_pan_judges, pan_judges
from detox.rewriter.backend import GREEDY
from detox.rewriter.comparison_settings import VARIANTS
from detox.rewriter.evaluation import ALL, EACH, PRIMARY, Judged, judge
from detox.rewriter.face import CHUNK, Rewriter
from detox.rewriter.generation_settings import DecodingSettings, GenerationSettings, RewritingSettings
from detox.rewriter.lexicon import Lexicon

ALONE = ("greedy", "steered")
"""Variants that give out what the model writes, whatever that is."""
COPY, DELETE = "copy", "delete"
OFFLINE = "offline"
WORDS = {"better": "beats", "worse": "loses to", "undecided": "is not told apart from"}


class Outputs(NamedTuple):
    """What became of some texts, in their order."""

    texts: list[str]
    how: list[str]
    """How each was made: see `detox.rewriter.rerank.How`; `copied` by the baseline, `remote` by an endpoint."""


class System(NamedTuple):
    """One way of rewriting with what its outputs are worth."""

    judged: Judged
    how: list[str]

    @property
    def name(self) -> str:
        return self.judged.name

    @property
    def counts(self) -> dict[str, int]:
        """Outputs made in each way, the most frequent first."""
        return dict(Counter(self.how).most_common())


def judged_systems(
    rewriter: Rewriter, cases: Sequence[Case], judges: Judges, lexicon: Lexicon, variants: Sequence[str], name: str
) -> Iterator[System]:
    """The cases rewritten and judged, once a variant, each when it is asked for.

    Args:
        lexicon: of `detox.rewriter.evaluation.judge`: learned from the judge's pairs.
        variants: of `VARIANTS`.
        name: of the rewriter; its systems are called `name/variant`, or `variant` where it is empty.

    Raises:
        ValueError: an unknown variant.
    """
    for variant in variants:
        yield judged(system_name(name, variant), rewritten(rewriter, cases, variant), cases, judges, lexicon)


def baselines(cases: Sequence[Case], judges: Judges, lexicon: Lexicon, helpers_lexicon: Lexicon) -> list[System]:
    """The source as it is, and the source without its toxic words: what a rewriter has to beat.

    Args:
        helpers_lexicon: what `delete` takes out: learned from the training pairs, as the rewriter's own.
    """
    copied = Outputs([case.source for case in cases], ["copied"] * len(cases))
    cut = Outputs([helpers_lexicon.delete(case.source, case.lang) for case in cases], ["edited"] * len(cases))
    return [judged(name, made, cases, judges, lexicon) for name, made in ((COPY, copied), (DELETE, cut))]


def judged(name: str, made: Outputs, cases: Sequence[Case], judges: Judges, lexicon: Lexicon) -> System:
    """Outputs, from wherever they come, as a system."""
    return System(judge(name, made.texts, cases, judges, lexicon), list(made.how))


def line_of(system: System) -> str:
    """A system in a line of progress."""
    return f"{system.name}: J {system.judged.mean(PRIMARY):.4f}, copies {system.judged.mean('copy'):.1%}"


def system_name(name: str, variant: str) -> str:
    """`name/variant`, or the variant alone."""
    return f"{name}/{variant}" if name else variant


def rewritten(rewriter: Rewriter, cases: Sequence[Case], variant: str) -> Outputs:
    """The cases' sources rewritten in one variant.

    Raises:
        ValueError: an unknown variant.
    """
    varied = rewriter.with_settings(varied_settings(rewriter.settings, variant))
    sources, langs = [case.source for case in cases], [case.lang for case in cases]
    if variant not in ALONE:
        found = varied.rewrite(sources, langs)
        return Outputs([rewrite.text for rewrite in found], [rewrite.how for rewrite in found])
    texts: list[str] = []
    for begin in range(0, len(sources), CHUNK):
        part = slice(begin, begin + CHUNK)
        offers = varied.candidates([varied.clean(text) for text in sources[part]], langs[part])
        texts += [offer[0] for offer in offers]
    return Outputs(texts, ["model"] * len(texts))


def varied_settings(settings: RewritingSettings, variant: str) -> RewritingSettings:
    """The rewriter's own settings without what the variant leaves out.

    Raises:
        ValueError: an unknown variant.
    """
    if variant not in VARIANTS:
        raise ValueError(f"a variant is one of {', '.join(VARIANTS)}, was {variant!r}")
    own = settings.generation
    greedy = GenerationSettings(**own.model_dump(include=GREEDY))
    return RewritingSettings(
        generation=greedy if variant in ALONE else own,
        decoding=DecodingSettings() if variant in ("greedy", "reranked") else settings.decoding,
        rerank=settings.rerank,
    )


def judges_named(name: str, judge_rows: Sequence[PairRow], embed_english: bool = True) -> Judges:
    """The judges of a setting.

    Args:
        name: `offline`; `pan2024` or `pan2025`, the shared tasks' own models from the hub; or a classifier, by any name
            that `detox classify --model` takes, which then judges neutrality beside the offline judges.
        judge_rows: the `judge` part of prepared pairs; PAN's need none.
        embed_english: see `offline_judges`.

    Raises:
        ValueError: no pairs for offline judges, or a model that does not load.
    """
    if name in PAN:
        return pan_judges(name, offline_judges(judge_rows, embed_english) if judge_rows else None)
    offline = offline_judges(judge_rows, embed_english)
    return offline if name in ("", OFFLINE) else offline._replace(neutrality=named_neutrality(name))


def check_judges(name: str) -> None:
    """What can be known to fail of a name that `judges_named` is to take, before any work.

    Raises:
        ValueError: it is neither one of ours nor a classifier that is there; or a model of PAN's is not.
    """
    if name in ("", OFFLINE):
        return
    if name in PAN:
        check_pan_judges(name)
        return
    try:
        check_toxicity(name)
    except ValueError as error:
        known = ", ".join((OFFLINE, *PAN))
        raise ValueError(f"judges are {known} or a classifier of toxicity, and {name!r} is neither: {error}") from error


def primary_of(systems: Sequence[System], primary: str = "") -> System:
    """The system that the verdict is about: the named one, or the last.

    Raises:
        ValueError: there is no system of this name, or nothing but the baselines.
    """
    names = [system.name for system in systems]
    if primary and primary not in names:
        raise ValueError(f"there is no system {primary!r}: choose one of {', '.join(names)}")
    if len(systems) < 3:
        raise ValueError(f"a comparison needs copy, delete and a rewriter, were {', '.join(names) or 'none'}")
    return systems[names.index(primary)] if primary else systems[-1]


def verdict(systems: Sequence[System], primary: str = "") -> str:
    """Whether a system beats copy and delete in J, over all texts and over the languages, and how often it copies."""
    chosen = primary_of(systems, primary)
    mine = chosen.judged
    said = f"{chosen.name} {_against(systems, mine, ALL)}; J {mine.mean(PRIMARY):.3f} on {len(mine.outputs):,} texts."
    if len(mine.counted) > 1:
        mean = f"J {mine.mean(PRIMARY, EACH):.3f} as the mean of {len(mine.counted)} languages"
        said += f" With every language alike it {_against(systems, mine, EACH)}; {mean}."
    return f"{said} It copies {mine.mean('copy'):.1%} of its inputs."


def _against(systems: Sequence[System], mine: Judged, lang: str) -> str:
    """What becomes of copy and of delete."""
    said = []
    for system in systems[:2]:
        found = mine.better_than(system.judged, lang=lang)
        margin = f"{found.difference:+.3f}, 95 % {found.low:+.3f} to {found.high:+.3f}, {p_value_text(found.p_value)}"
        said.append(f"{WORDS[found.verdict]} {system.name} in J ({margin})")
    return " and ".join(said)


def summary_of(
    systems: Sequence[System],
    stages: Sequence[Mapping[str, Any]] = (),
    primary: str = "",
    losses: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Flat figures for `summary.json`; what is undefined is null.

    `<figure>/<system>` over all texts; `<figure>/<system>/<language>` of J and copies, of the primary system of all
    figures; `<figure>_macro/<system>` of J, the mean of the languages; each with `_low` and `_high`, the ends of the
    95 % interval (by language: of the primary system); `lift_over_copy/<system>`;
    `<figure>/stage/<stage>`; and `reference_loss/<rewriter>`.
    """
    chosen = primary_of(systems, primary)
    flat: dict[str, Any] = {"headline": verdict(systems, primary), "primary": chosen.name}
    flat["texts"] = len(chosen.judged.outputs)
    copied = systems[0].judged.mean(PRIMARY)
    for name, mine in ((system.name, system.judged) for system in systems):
        for figure in mine.rows:
            flat[f"{figure}/{name}"] = mine.mean(figure)
            flat[f"{figure}_low/{name}"], flat[f"{figure}_high/{name}"] = mine.interval(figure)
        for figure in (PRIMARY, "j_2025"):
            flat[f"{figure}_macro/{name}"] = mine.mean(figure, EACH)
            flat[f"{figure}_macro_low/{name}"], flat[f"{figure}_macro_high/{name}"] = mine.interval(figure, EACH)
        flat |= {
            f"{figure}/{name}/{lang}": mine.mean(figure, lang)
            for figure in (PRIMARY, "copy")
            for lang in mine.languages
        }
        flat[f"lift_over_copy/{name}"] = mine.mean(PRIMARY) - copied
    mine = chosen.judged
    for lang in mine.languages:
        for figure in mine.rows:
            place = f"{chosen.name}/{lang}"
            flat[f"{figure}/{place}"] = mine.mean(figure, lang)
            flat[f"{figure}_low/{place}"], flat[f"{figure}_high/{place}"] = mine.interval(figure, lang)
    for stage in stages:
        flat |= {f"{key}/stage/{stage['stage']}": value for key, value in stage.items() if key != "stage"}
    flat |= {f"reference_loss/{name}": loss for name, loss in (losses or {}).items()}
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in flat.items()
    }


def outputs_table(systems: Sequence[System], cases: Sequence[Case], path: Path) -> None:
    """Write a row a case and system as parquet: source, references, output, how it was made, and every figure."""
    tables = []
    for system in systems:
        columns: dict[str, Any] = {
            "system": [system.name] * len(cases),
            "lang": [case.lang for case in cases],
            "level": [case.level for case in cases],
            "source": [case.source for case in cases],
            "references": [list(case.references) for case in cases],
            "output": system.judged.outputs,
            "how": system.how,
        }
        tables.append(pa.table(columns | dict(system.judged.rows)))
    pq.write_table(pa.concat_tables(tables), path, compression="zstd")
