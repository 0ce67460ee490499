"""What one worker of rewriter training does, from prepared pairs to the figures of each stage. Knows nothing of Ray."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from transformers import TrainerCallback, set_seed

from detox.classifier.model_scorers import model_parent
from detox.classifier.sides import SideScorer
from detox.classifier.training import resolve_precision
from detox.classifier.worker import Place
from detox.data.pairs.prepared import Case, PairRow, PreparedPairs, cases
from detox.evaluation.judges import offline_judges
from detox.models.loading import LoadedModel
from detox.models.seq2seq import load_seq2seq, with_lora
from detox.rewriter.backend import ModelBackend
from detox.rewriter.batches import TokenisedPairs, tokenise_pairs
from detox.rewriter.curriculum import CurriculumSeq2SeqTrainer, Figures, plan
from detox.rewriter.decoding import Steering
from detox.rewriter.evaluation import ALL, PRIMARY, Judged, judge
from detox.rewriter.generation_settings import DecodingSettings, GenerationSettings
from detox.rewriter.lexicon import Lexicon
from detox.rewriter.losses import build_loss
from detox.rewriter.readable import Unread, readable
from detox.rewriter.settings import TrainRewriterConfig
from detox.rewriter.side_reader import fit_side_reader
from detox.rewriter.training import RewriterTrainer, training_arguments
from detox.runs.stages import StageStore

TEXTS_FOR_TOKENIZER = 20_000


class Outcome(NamedTuple):
    """What a trained curriculum leaves."""

    figures: list[Figures]
    """Of each stage."""
    base_revision: str
    """Commit of a base model from the hub, which the weights stand on; empty for any other."""
    weights: list[str]
    """URI of each stage's folder in the stage store."""
    refused: dict[str, int]
    """How many pairs the model cannot read, which were neither learned nor measured by, by rule."""


def train_one_rank(
    config: TrainRewriterConfig,
    pairs: PreparedPairs,
    place: Place,
    store: StageStore,
    callbacks_at: Callable[[int], Sequence[TrainerCallback]] = lambda _: (),
    resume_from: Path | None = None,
    on_refused: Callable[[Sequence[Unread]], None] = lambda _: None,
) -> Outcome:
    """Load, tokenise and take the model through its stages on one rank.

    Args:
        store: finished stages of the storage.
        callbacks_at: makes the callbacks, given the optimizer step at which training goes on.
        resume_from: a checkpoint within a stage.
        on_refused: is given the pairs that the model cannot read, before anything is trained.

    Raises:
        ValueError: the model can read no pair, or none of a stage's.
    """
    torch.set_num_threads(config.scaling.threads_per_worker)
    set_seed(config.run.seed)
    train, validation = pairs.part("train"), pairs.part("validation")
    lexicon = Lexicon.fit((row.lang, row.toxic, row.neutral) for row in train)
    loaded = load_for_training(config, train)
    train, unread = readable(train, loaded.tokenizer, config.model, "train")
    validation, not_measured = readable(validation, loaded.tokenizer, config.model, "validation")
    refused = [*unread, *not_measured]
    on_refused(refused)
    if not train:
        raise ValueError(
            f"the model can read none of the {len(unread):,} training pairs; of the first, {unread[0].reason}: raise "
            "--model.max-source-tokens and --model.max-target-tokens, or name a model that knows the script"
        )
    tokenised = tokenise_pairs(train, loaded.tokenizer, config.model, lexicon)
    toxicity_V = token_toxicity(tokenised, loaded.model.config.vocab_size)
    arguments = training_arguments(config, place.scratch, place.ranks)
    losses = [stage.loss or config.loss for stage in config.curriculum.stages]
    classifier = None
    if any(loss.toxic_classifier for loss in losses):
        classifier = fit_side_reader(tokenised, loaded.model.config.vocab_size, config.run.seed)
        classifier.model.to(arguments.device)
    trainer = RewriterTrainer(
        model=loaded.model,
        args=arguments,
        loss_of=lambda stage: build_loss(stage.loss or config.loss, toxicity_V, classifier),
        validation=tokenise_pairs(validation, loaded.tokenizer, config.model, lexicon),
        pad_id=int(loaded.tokenizer.pad_token_id),  # type: ignore[arg-type]
        callbacks=(),
    )
    made_by = produced_by(config, pairs, loaded)
    stages = plan(train, config, made_by, unread)
    check = StageCheck(config, loaded, pairs, lexicon)
    habit = tokenise_pairs(as_copies(train), loaded.tokenizer, config.model, lexicon)
    controller = CurriculumSeq2SeqTrainer(trainer, tokenised, habit, stages, store, config, check)
    controller.listen(callbacks_at(controller.steps_done(resume_from)))
    figures = controller.train(resume_from)
    counts = Counter(pair.rule for pair in refused)
    weights = [controller.folder(stage).uri for stage in stages]
    return Outcome(figures, loaded.revision, weights, dict(counts.most_common()))


def load_for_training(config: TrainRewriterConfig, train: Sequence[PairRow], revision: str = "") -> LoadedModel:
    """The base model, with adapters where wanted; the same on every rank and after every restart.

    Args:
        revision: the commit of the hub that was trained on; empty: the one that the name means.
    """
    settings, seed = config.model, config.run.seed
    texts = [text for row in train for text in (row.toxic, row.neutral)][:TEXTS_FOR_TOKENIZER]
    options: dict[str, Any] = {
        "hidden": settings.tiny_width,
        "vocab_size": settings.tiny_vocabulary,
        "num_layers": settings.tiny_layers,
        "num_heads": TINY_HEADS,
        "d_kv": settings.tiny_width // TINY_HEADS,
    }
    name = f"{settings.name.partition('@')[0]}@{revision}" if revision else settings.name
    loaded = load_seq2seq(name, texts_for_tokenizer=texts, seed=seed, **options)
    model: Any = loaded.model
    if settings.lora.rank:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            lora = settings.lora
            model = with_lora(model, lora.rank, lora.alpha, lora.dropout, lora.target_modules)
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    return LoadedModel(model, loaded.tokenizer, loaded.name, loaded.revision)


TINY_HEADS = 4
"""Attention heads of a `tiny/…` rewriter."""


def as_copies(rows: Sequence[PairRow]) -> list[PairRow]:
    """Both sides of every pair as their own rewrite."""
    both = [(row, text) for row in rows for text in dict.fromkeys((row.toxic, row.neutral))]
    return [row._replace(toxic=text, neutral=text) for row, text in both]


def token_toxicity(pairs: TokenisedPairs, vocabulary: int, prior: float = 5.0) -> torch.Tensor:
    """How often each token of a source is gone from its rewrite, smoothed toward the average, 0..1, float32 `[V]`."""
    seen_V, gone_V = np.zeros(vocabulary), np.zeros(vocabulary)
    for row in range(len(pairs)):
        source, target = set(pairs.copies[row].tolist()), set(pairs.targets[row].tolist())
        seen_V[list(source)] += 1
        gone_V[list(source - target)] += 1
    average = gone_V.sum() / max(1.0, seen_V.sum())
    share_V = (gone_V + prior * average) / (seen_V + prior)
    return torch.from_numpy(np.where(seen_V > 0, np.clip(share_V - average, 0, 1), 0.0)).float()


def produced_by(config: TrainRewriterConfig, pairs: PreparedPairs, loaded: LoadedModel) -> dict[str, Any]:
    """What all stages have in common: with the stage itself, all that determines what it leaves."""
    measured = {"stage_texts", "bert_score", "stage_decoding"}
    is_steered = config.evaluation.stage_decoding == "steered"
    return {
        "pairs": pairs.digest,
        "model": config.model.model_dump(mode="json"),
        "base_model": model_parent(loaded.name, loaded.revision, config.run.seed)["digest"],
        "loss": config.loss.model_dump(mode="json"),
        "batch": config.batch.model_dump(mode="json"),
        "optimiser": config.optimiser.model_dump(mode="json"),
        "precision": resolve_precision(config.optimiser.precision),
        "evaluation": config.evaluation.model_dump(mode="json", include=measured),
        "decoding": config.rewriting.decoding.model_dump(mode="json") if is_steered else {},
        "seed": config.run.seed,
        "ranks": max(1, config.scaling.num_workers),  # an elastic run may have had fewer for a while
        "threads": config.scaling.threads_per_worker,
    }


class StageCheck:
    """Figures of the model as it is: validation texts rewritten and judged, by all ranks together, known to each."""

    def __init__(
        self, config: TrainRewriterConfig, loaded: LoadedModel, pairs: PreparedPairs, lexicon: Lexicon
    ) -> None:
        self._loaded = loaded
        every = cases(pairs.part("validation"))
        self._cases = drawn(every, config.evaluation.stage_texts, config.run.seed)
        judge_rows, train = pairs.part("judge"), pairs.part("train")
        self._judges = offline_judges(judge_rows, config.evaluation.bert_score) if judge_rows else None
        self._lexicon = Lexicon.fit((row.lang, row.toxic, row.neutral) for row in judge_rows or train)
        decoding = config.rewriting.decoding if config.evaluation.stage_decoding == "steered" else DecodingSettings()
        needs_scores = decoding.toxicity or decoding.rescoring
        toxicity = SideScorer.fit(*columns(train)) if needs_scores else None
        greedy = GenerationSettings(max_new_tokens=config.model.max_target_tokens)
        steering = Steering(decoding, loaded.tokenizer, lexicon, toxicity)
        self._backend = ModelBackend(loaded, config.model, greedy, steering)

    def __call__(self) -> Figures:
        outputs = self._rewritten()
        if self._judges is None or not outputs:
            return {}
        return stage_figures(judge("", outputs, self._cases, self._judges, self._lexicon))

    def _rewritten(self) -> list[str]:
        ranks = dist.get_world_size() if dist.is_initialized() else 1
        rank = dist.get_rank() if ranks > 1 else 0
        mine = self._written(self._cases[rank::ranks])
        shares: list[Any] = [mine]
        if ranks > 1:
            shares = [None] * ranks
            dist.all_gather_object(shares, mine)
        outputs = [""] * len(self._cases)
        for at, share in enumerate(shares):
            outputs[at::ranks] = share
        return outputs

    def _written(self, wanted: Sequence[Case]) -> list[str]:
        """The model's likeliest rewrite of each source, whole or not."""
        was_training = self._loaded.model.training
        self._loaded.model.eval()
        found = self._backend.written([case.source for case in wanted], [case.lang for case in wanted])
        self._loaded.model.train(was_training)
        return [row[0].text for row in found]


def drawn(every: Sequence[Case], most: int, seed: int) -> list[Case]:
    """At most so many cases, in their order, of each language as many as of the others if it has them; 0: all."""
    if not most:
        return list(every)
    rng = np.random.default_rng(seed)
    by_language: dict[str, list[int]] = {}
    for at in rng.permutation(len(every)).tolist():
        by_language.setdefault(every[at].lang, []).append(at)
    turns = [at for turn in zip_longest(*(by_language[lang] for lang in sorted(by_language))) for at in turn]
    return [every[at] for at in sorted([at for at in turns if at is not None][:most])]


def stage_figures(judged: Judged) -> Figures:
    """Means over all texts and over those of each language (`similarity/de`), each with the ends of its 95 % interval
    (`similarity_low`, `similarity_low/de`); what is undefined is left out."""
    figures: Figures = {}
    for lang in (ALL, *(judged.languages if len(judged.languages) > 1 else ())):
        place = "" if lang == ALL else f"/{lang}"
        for figure in judged.rows:
            name = STAGE_NAMES.get(figure, figure)
            figures[f"{name}{place}"] = judged.mean(figure, lang)
            figures[f"{name}_low{place}"], figures[f"{name}_high{place}"] = judged.interval(figure, lang)
    return {name: value for name, value in figures.items() if not math.isnan(value)}


STAGE_NAMES = {
    "copy_exact": "copy_rate",
    "copy": "copy_rate_normalised",
    "toxic_copy": "toxic_copy_rate",
    PRIMARY: "joint",
}
"""Figures of a stage with names of their own (S2 section 6)."""


def columns(rows: Sequence[PairRow]) -> tuple[list[str], list[str], list[str]]:
    """Toxic sides, neutral sides, languages."""
    return [row.toxic for row in rows], [row.neutral for row in rows], [row.lang for row in rows]
