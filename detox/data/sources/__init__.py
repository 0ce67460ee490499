"""Sources of comments by name, one small module each: licence, revision, columns, label mapping, how to get it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from detox.data.sources import (
    civil_comments,
    conda,
    davidson,
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
    module.SOURCE.name: module.SOURCE
    for module in (
        jigsaw2018,
        civil_comments,
        toxic_commons,
        real_toxicity_prompts,
        davidson,
        conda,
        gosuai_dota2,
        hh_rlhf,
        toxic_spans,
        judge_pairs,
        synthetic,
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
