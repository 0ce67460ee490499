"""What a trained rewriter is on disk, and how it is loaded again.

config.json, model.safetensors, tokenizer files    Hugging Face layout (adapters alone where only they were trained)
detox.json                                          prompt, lengths, cleaning, generation, decoding, reranking
lexicon.json, sides.safetensors, fluency.parquet    what steers and reranks, learned from the training pairs
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from detox.classifier.sides import SideScorer
from detox.data.settings import CleaningSettings
from detox.models.loading import HUB_NAME, LoadedModel, fetched, local_folder, locate
from detox.rewriter.fluency import CharacterModel
from detox.rewriter.generation_settings import RewritingSettings
from detox.rewriter.lexicon import Lexicon
from detox.rewriter.settings import RewriterModelSettings
from detox.runs.config import validated

ARTIFACT = "detox.json"
TEXT = CleaningSettings(pii=False)
"""What is done to a text before it is rewritten. Personal data stay: a rewrite must keep them."""
LEXICON, SIDES, FLUENCY = "lexicon.json", "sides.safetensors", "fluency.parquet"


class Helpers(NamedTuple):
    """What stands beside the model: learned from the training pairs, never from those of the judge."""

    lexicon: Lexicon
    sides: SideScorer
    fluency: CharacterModel

    @classmethod
    def fit(cls, toxic: Sequence[str], neutral: Sequence[str], langs: Sequence[str]) -> Helpers:
        """Learn from pairs."""
        return cls(
            Lexicon.fit(zip(langs, toxic, neutral, strict=True)),
            SideScorer.fit(toxic, neutral, langs),
            CharacterModel.fit(neutral, langs),
        )

    def save(self, folder: Path) -> None:
        self.lexicon.save(folder / LEXICON)
        self.sides.save(folder / SIDES)
        self.fluency.save(folder / FLUENCY)

    @classmethod
    def load(cls, folder: Path) -> Helpers:
        return cls(
            Lexicon.load(folder / LEXICON), SideScorer.load(folder / SIDES), CharacterModel.load(folder / FLUENCY)
        )


def write_artifact(
    folder: Path,
    loaded: LoadedModel,
    model: RewriterModelSettings,
    rewriting: RewritingSettings,
    helpers: Helpers,
    languages: Sequence[str],
) -> Path:
    """The artifact's folder."""
    model_to_save: Any = loaded.model
    if loaded.name.startswith("tiny/") and hasattr(model_to_save, "merge_and_unload"):
        model_to_save = copy.deepcopy(model_to_save).merge_and_unload()  # nobody could load its base again
    model_to_save.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    helpers.save(folder)
    facts: dict[str, Any] = {
        "kind": "rewriter",
        "model": model.model_dump(mode="json"),
        "rewriting": rewriting.model_dump(mode="json"),
        "cleaning": TEXT.model_dump(mode="json"),
        "languages": list(languages),
        "base_model": loaded.name,
        "base_revision": loaded.revision,
    }
    (folder / ARTIFACT).write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return folder


def rewriter_folder(name: str) -> Path:
    """The artifact's folder of a run directory, of an artifact, or of a repository of the hub (`owner/name@revision`).

    Raises:
        ValueError: the name leads nowhere.
    """
    folder = local_folder(name)
    if folder is None and (name.startswith("tiny/") or not HUB_NAME.fullmatch(name)):
        raise ValueError(f"there is no rewriter {name!r}: name a run of train_rewriter, its artifact, or owner/name")
    return fetched(locate(name)) if folder is None else folder


class ArtifactFacts(NamedTuple):
    """What `detox.json` says of a rewriter."""

    model: RewriterModelSettings
    rewriting: RewritingSettings
    cleaning: CleaningSettings
    languages: tuple[str, ...]
    base_model: str
    base_revision: str


def read_facts(folder: Path) -> ArtifactFacts:
    """Raises:
    ValueError: not a rewriter's artifact.
    """
    path = folder / ARTIFACT
    if not path.is_file():
        raise ValueError(f"{folder} is no artifact of ours: it has no {ARTIFACT}; name a run of train_rewriter")
    facts = json.loads(path.read_text(encoding="utf-8"))
    if facts["kind"] != "rewriter":
        raise ValueError(f"{folder} is a {facts['kind']}, and rewriting needs a rewriter: name another run")
    return ArtifactFacts(
        validated(RewriterModelSettings, facts["model"]),
        validated(RewritingSettings, facts["rewriting"]),
        validated(CleaningSettings, facts["cleaning"]),
        tuple(facts["languages"]),
        facts["base_model"],
        facts["base_revision"],
    )
