"""Pairs of a model's own responses: of each prompt's samples the one that a ranker finds best, and the worst.

(S1 step 14: DPO with a Bradley-Terry reward model; the best-of-n sampling of RSO, Liu et al. 2023, arXiv:2309.06657.)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detox.alignment.finetune_settings import FinetuneConfig
from detox.alignment.ranker import Ranker
from detox.alignment.tunable import load_tunable, prompt_ids, response_to
from detox.data.examples.example import FACTS, Example, PreparedExamples, write_part
from detox.models.loading import device_named
from detox.rewriter.generation import generate
from detox.rewriter.generation_settings import GenerationSettings
from detox.runs.config import digest


def ranked_examples(config: FinetuneConfig, examples: PreparedExamples, folder: Path) -> None:
    """Write a folder of prepared examples whose training pairs are the model's own; the other parts stay.

    Raises:
        ValueError: no prompt leaves room for a response, or all responses to each are equal.
    """
    settings = config.preference
    train = [example for example in examples.part("train") if example.prompt]
    train = train[: settings.prompts or None]
    found = pairs_of(config, train, folder.parent)
    if not found:
        raise ValueError(
            f"of {len(train):,} prompts none gave two responses that differ: raise --model.max-tokens, "
            "--preference.temperature or --preference.candidates"
        )
    for name in ("validation", "test"):
        write_part(folder / f"{name}.parquet", examples.part(name))
    write_part(folder / "train.parquet", found)
    facts = dict(examples.facts) | {
        "ranked_by": settings.ranker,
        "rows": examples.facts["rows"] | {"train": len(found)},
        "digest": digest({"train": [repr(example) for example in found], "from": examples.facts["digest"]}),
    }
    (folder / FACTS).write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def pairs_of(config: FinetuneConfig, train: Sequence[Example], scratch: Path) -> list[Example]:
    """The best and the worst of each prompt's samples; prompts whose samples the ranker cannot tell apart give none."""
    settings, seed = config.preference, config.run.seed
    device = "" if config.scaling.use_gpu else "cpu"
    loaded = load_tunable(config.model, [], seed, scratch).loaded
    model: Any = loaded.model.to(device_named(device)).eval()  # type: ignore[arg-type]
    tokenizer: Any = loaded.tokenizer
    ids = [prompt_ids(example.prompt, tokenizer) for example in train]
    most = config.model.max_tokens - settings.max_new_tokens
    fits = [at for at, row in enumerate(ids) if 0 < len(row) <= most]
    sampling = GenerationSettings(
        mode="sample",
        candidates=settings.candidates,
        temperature=settings.temperature,
        max_new_tokens=settings.max_new_tokens,
    )
    said = generate(model, [ids[at] for at in fits], sampling, seed=seed, row_numbers=fits)
    texts = [tokenizer.batch_decode([one.tokens for one in row], skip_special_tokens=True) for row in said]
    ranker = Ranker.load(settings.ranker, config.model.max_tokens, device)
    prompts = [train[at].prompt for at, row in zip(fits, texts, strict=True) for _ in row]
    scores = iter(ranker.score(prompts, [text.strip() for row in texts for text in row]))
    pairs = list[Example]()
    for at, row in zip(fits, texts, strict=True):
        values = np.array([next(scores) for _ in row])
        prompt = train[at].prompt
        keeps_space = response_to(prompt, "", tokenizer) == "" and isinstance(prompt, str)
        best, worst = (row[int(place)] for place in (values.argmax(), values.argmin()))
        if best.strip() and worst.strip() and best.strip() != worst.strip():
            pairs.append(Example(prompt, *(text if keeps_space else text.strip() for text in (best, worst))))
    return pairs
