"""Sources of comments by name, one small module each: licence, revision, columns, label mapping, how to get it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from detox.data.sources import (
    civil_comments,
    conda,
    davidson,
    dialogues,
    gosuai_dota2,
    hh_rlhf,
    jigsaw2018,
    judge_pairs,
    real_toxicity_prompts,
    synthetic,
    toxic_commons,
    toxic_spans,
)
from detox.data.sources.source import Source

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        jigsaw2018.SOURCE,
        civil_comments.SOURCE,
        toxic_commons.SOURCE,
        real_toxicity_prompts.SOURCE,
        davidson.SOURCE,
        conda.SOURCE,
        gosuai_dota2.SOURCE,
        hh_rlhf.SOURCE,
        toxic_spans.SOURCE,
        judge_pairs.SOURCE,
        *dialogues.SOURCES,
        synthetic.SOURCE,
    )
}


def source_named(name: str, sources: Mapping[str, Source] = SOURCES) -> Source:
    """The source of this name.

    Raises:
        ValueError: an unknown name; the nearest one and all known ones are listed.
    """
    if name in sources:
        return sources[name]
    nearest = difflib.get_close_matches(name.lower(), sources, n=1)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    raise ValueError(
        f"no source is named {name!r}: {hint}there are {', '.join(sources)}; a file is named with its ending, "
        "such as comments.csv"
    )
