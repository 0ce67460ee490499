"""An untrained rewriter on disk, as a run leaves one: it rewrites badly, so that what it gives out is mostly edited."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from detox.data.synthetic_pairs import generate_pairs
from detox.governance.manifest import write_manifest
from detox.models.seq2seq import load_seq2seq, with_lora
from detox.rewriter.artifact import Helpers, write_artifact
from detox.rewriter.generation_settings import GenerationSettings, RewritingSettings
from detox.rewriter.settings import RewriterModelSettings

PAIRS = [pair for pair in generate_pairs(200) if pair["toxic"] != pair["neutral"]]
TOXIC, NEUTRAL, LANGS = ([str(pair[key]) for pair in PAIRS] for key in ("toxic", "neutral", "lang"))
MAX_SOURCE_TOKENS = 40
SHORT = GenerationSettings(max_new_tokens=40)

RUDE = "Who moved my lineup to the archive, you plonker?"
CIVIL = "Who moved my lineup to the archive?"
"""What is left when the words are cut out that the pairs know as toxic."""
THANKS = "Thanks for the note about the new goalkeeper."


def write_rewriter(
    folder: Path, architecture: str = "t5", ends: bool = False, base: str = "", **rewriting: Any
) -> Path:
    """A run directory `folder` with a signed `artifact/`; returns `folder`.

    Args:
        base: a model of which the artifact holds adapters alone.
        ends: a fifth of all tokens end a text: random weights hardly ever choose the one token that does.
    """
    if base:
        whole = load_seq2seq(base)
        loaded = replace(whole, model=with_lora(whole.model, 2, 4.0, 0.0, ("q", "v")))
    else:
        loaded = load_seq2seq(f"tiny/{architecture}", texts_for_tokenizer=TOXIC + NEUTRAL, vocab_size=1000)
    if ends:
        loaded.model.generation_config.eos_token_id = [1, *range(3, loaded.model.config.vocab_size, 5)]
    (folder / "artifact").mkdir(parents=True)
    write_artifact(
        folder / "artifact",
        loaded,
        RewriterModelSettings(max_source_tokens=MAX_SOURCE_TOKENS, prompt="{lang}: "),
        RewritingSettings(**{"generation": SHORT} | rewriting),
        Helpers.fit(TOXIC, NEUTRAL, LANGS),
        ["en"],
    )
    write_manifest(folder / "artifact", {"job": "train_rewriter"})
    return folder
