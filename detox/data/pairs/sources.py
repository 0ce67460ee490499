"""Sources of pairs by name: licence, revision, columns, how to get them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from detox.data.sources.source import Columns, Comment, Source

NEUTRAL, LANG = "neutral", "lang"
"""A pair travels as a `Comment`: its toxic side as the text, neutral side and language beside it."""

FURTHER = ("neutral2", "neutral3")
"""Further rewrites of the same source, in files as ParaDetox's and RUSSE's authors publish them."""
SYNTHETIC_ROWS = 3000
"""Of `synthetic_pairs`, where no limit is set."""
MULTIPARADETOX = ("en", "ru", "uk", "de", "es", "am", "zh", "ar", "hi", "it", "fr", "he", "hin", "ja", "tt")
"""Nine languages of 2024 and six of 2025; `hin` is Hindi in Latin script."""


def _pairs(lang: str = "") -> Callable[[Columns], Iterator[Comment]]:
    def pairs(record: Columns) -> Iterator[Comment]:
        further = [record[name] for name in FURTHER if record.get(name)]
        for neutral in (record["neutral"], *further):
            yield Comment(record["toxic"], {NEUTRAL: neutral, LANG: record.get(LANG) or lang}, record.get("split"))

    return pairs


def _synthetic(rows: int) -> Iterator[dict[str, Any]]:
    from detox.data.synthetic_pairs import generate_pairs

    return generate_pairs(rows or SYNTHETIC_ROWS)


def _source(name: str, *, lang: str = "", columns: dict[str, tuple[str, ...]], **facts: object) -> Source:
    every = columns | {LANG: (LANG, "language"), "split": ("split",)}
    every |= {name: (name, f"neutral_comment{name[-1]}") for name in FURTHER}
    return Source(
        name=name,
        labels=(NEUTRAL, LANG),
        mapping=facts.pop("mapping", "`toxic` is the toxic side, `neutral` a rewrite of it by people."),  # type: ignore[arg-type]
        columns=every,
        optional=(LANG, "split", *FURTHER),
        comments=_pairs(lang),
        **facts,  # type: ignore[arg-type]
    )


PAIR_SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        _source(
            "paradetox",
            lang="en",
            columns={"toxic": ("en_toxic_comment", "toxic"), "neutral": ("en_neutral_comment", "neutral", "neutral1")},
            title="ParaDetox (Logacheva et al., ACL 2022)",
            licence="OpenRAIL++ (the hub's card), CC0 (the authors' repository)",
            homepage="https://huggingface.co/datasets/s-nlp/paradetox",
            obtain="the hub has it; or take paradetox/paradetox.tsv of https://github.com/s-nlp/paradetox",
            hub="s-nlp/paradetox",
            local={
                "train": (
                    "paradetox_en.parquet",
                    "data/train-*.parquet",
                    "paradetox.tsv",
                    "paradetox/paradetox.tsv",
                    "paradetox.csv",
                ),
            },
        ),
        _source(
            "multiparadetox",
            columns={"toxic": ("toxic_sentence", "toxic"), "neutral": ("neutral_sentence", "neutral")},
            title="MultiParaDetox (Dementieva et al., CLEF 2024 and 2025)",
            licence="OpenRAIL++",
            homepage="https://huggingface.co/datasets/textdetox/multilingual_paradetox",
            obtain="the hub has it, a split a language",
            hub="textdetox/multilingual_paradetox",
            local={
                "": ("multiparadetox_dev.parquet",),
                **{code: (f"data/{code}-*.parquet",) for code in MULTIPARADETOX},
            },
        ),
        _source(
            "ru_paradetox",
            lang="ru",
            columns={
                "toxic": ("ru_toxic_comment", "toxic_comment", "toxic"),
                "neutral": ("ru_neutral_comment", "neutral_comment1", "neutral"),
            },
            title="Russian ParaDetox (RUSSE-2022 Detoxification)",
            licence="OpenRAIL++",
            homepage="https://huggingface.co/datasets/s-nlp/ru_paradetox",
            obtain="the hub has it (train.tsv and dev.tsv)",
            hub="s-nlp/ru_paradetox",
            local={"": ("ru_paradetox.parquet",), "train": ("train.tsv",), "validation": ("dev.tsv",)},
        ),
        _source(
            "synthdetoxm",
            columns={"toxic": ("toxic_sentence", "toxic"), "neutral": ("neutral_sentence", "neutral")},
            title="SynthDetoxM (Moskovskiy et al., NAACL 2025): 16,000 pairs in de, es, fr, ru, rewritten by models",
            licence="OpenRAIL++ (gated: its terms are accepted on the hub)",
            homepage="https://huggingface.co/datasets/s-nlp/synthdetoxm",
            obtain="accept its terms on the hub, then `hf auth login`",
            mapping="`toxic` was written by people, `neutral` is a rewrite of it by language models.",
            hub="s-nlp/synthdetoxm",
            local={"train": ("synthdetoxm.parquet", "data/train-*.parquet")},
        ),
        _source(
            "appdia",
            lang="en",
            columns={
                "toxic": ("offensive-text", "offensive_text", "toxic"),
                "neutral": ("style-transferred-text", "style_transferred_text", "neutral"),
            },
            title="APPDIA (Atwell et al., COLING 2022): Reddit comments rewritten by experts",
            licence="not stated by the authors; research use",
            homepage="https://github.com/sabithsn/APPDIA-Discourse-Style-Transfer",
            obtain="take data/original-annotated-data/ of https://github.com/sabithsn/APPDIA-Discourse-Style-Transfer",
            local={
                "train": ("original-train.tsv",),
                "validation": ("original-dev.tsv",),
                "test": ("original-test.tsv",),
            },
        ),
        _source(
            "synthetic_pairs",
            lang="en",
            columns={"toxic": ("toxic",), "neutral": ("neutral",)},
            title="Synthetic pairs of the demo",
            licence="Apache-2.0",
            homepage="",
            obtain="it is made on the spot",
            mapping="Both sides are made from the same pattern. Not real text: no result is claimed on it.",
            generate=_synthetic,
        ),
    )
}
