"""What one worker of rewriter training does, from prepared pairs to the figures of each stage. Knows nothing of Ray."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from transformers import PreTrainedTokenizerBase, TrainerCallback, set_seed

from detox.classifier.sides import SideScorer
from detox.classifier.training import resolve_precision
from detox.classifier.worker import Place
from detox.data.pairs.prepared import Case, PairRow, PreparedPairs, cases
from detox.evaluation.detoxification import bleu, chrf, copies, matches_reference, pan2024_joint
from detox.evaluation.judges import character_similarity
from detox.evaluation.minilm import ENGLISH, MiniLm
from detox.models.loading import LoadedModel
from detox.models.seq2seq import load_seq2seq, with_lora
from detox.rewriter.batches import TokenisedPairs, prompted, tokenise_pairs
from detox.rewriter.curriculum import CurriculumSeq2SeqTrainer, Figures, plan
from detox.rewriter.generation import generate
from detox.rewriter.generation_settings import GenerationSettings
from detox.rewriter.lexicon import Lexicon
from detox.rewriter.losses import build_loss
from detox.rewriter.settings import TrainRewriterConfig
from detox.rewriter.training import RewriterTrainer, training_arguments
from detox.runs.stages import StageStore

TEXTS_FOR_TOKENIZER = 20_000


class Outcome(NamedTuple):
    """What a trained curriculum leaves."""

    figures: list[Figures]
    """Of each stage."""
    weights: str
    """URI of the last stage's folder in the stage store."""


def train_one_rank(
    config: TrainRewriterConfig,
    pairs: PreparedPairs,
    place: Place,
    store: StageStore,
    callbacks_at: Callable[[int], Sequence[TrainerCallback]] = lambda _: (),
    resume_from: Path | None = None,
) -> Outcome:
    """Load, tokenise and take the model through its stages on one rank.

    Args:
        store: finished stages of the storage.
        callbacks_at: makes the callbacks, given the optimizer step at which training goes on.
        resume_from: a checkpoint within a stage.
    """
    torch.set_num_threads(config.scaling.threads_per_worker)
    set_seed(config.run.seed)
    train, validation = pairs.part("train"), pairs.part("validation")
    lexicon = Lexicon.fit((row.lang, row.toxic, row.neutral) for row in train)
    loaded = load_for_training(config, train)
    tokenised = tokenise_pairs(train, loaded.tokenizer, config.model, lexicon)
    toxicity_V = token_toxicity(tokenised, loaded.model.config.vocab_size)
    trainer = RewriterTrainer(
        model=loaded.model,
        args=training_arguments(config, place.scratch, place.ranks),
        loss_of=lambda stage: build_loss(stage.loss or config.loss, toxicity_V),
        validation=tokenise_pairs(validation, loaded.tokenizer, config.model, lexicon),
        pad_id=int(loaded.tokenizer.pad_token_id),  # type: ignore[arg-type]
        callbacks=(),
    )
    made_by = produced_by(config, pairs, loaded, place.ranks)
    stages = plan(train, config, made_by)
    check = StageCheck(config, loaded, pairs)
    habit = tokenise_pairs(as_copies(train), loaded.tokenizer, config.model, lexicon)
    controller = CurriculumSeq2SeqTrainer(trainer, tokenised, habit, stages, store, config, check)
    controller.listen(callbacks_at(controller.steps_done(resume_from)))
    figures = controller.train(resume_from)
    return Outcome(figures, controller.folder(stages[-1]).uri)


def load_for_training(config: TrainRewriterConfig, train: Sequence[PairRow]) -> LoadedModel:
    """The base model, with adapters where wanted; the same on every rank and after every restart."""
    settings, seed = config.model, config.run.seed
    texts = [text for row in train for text in (row.toxic, row.neutral)][:TEXTS_FOR_TOKENIZER]
    options: dict[str, Any] = {
        "hidden": settings.tiny_width,
        "vocab_size": settings.tiny_vocabulary,
        "num_layers": settings.tiny_layers,
        "num_heads": TINY_HEADS,
        "d_kv": settings.tiny_width // TINY_HEADS,
    }
    loaded = load_seq2seq(settings.name, texts_for_tokenizer=texts, seed=seed, **options)
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


def produced_by(config: TrainRewriterConfig, pairs: PreparedPairs, loaded: LoadedModel, ranks: int) -> dict[str, Any]:
    """What all stages have in common: with the stage itself, all that determines what it leaves."""
    return {
        "pairs": pairs.digest,
        "model": config.model.model_dump(mode="json"),
        "revision": loaded.revision,
        "loss": config.loss.model_dump(mode="json"),
        "batch": config.batch.model_dump(mode="json"),
        "optimiser": config.optimiser.model_dump(mode="json"),
        "precision": resolve_precision(config.optimiser.precision),
        "evaluation": config.evaluation.model_dump(mode="json", include={"stage_texts", "bert_score"}),
        "seed": config.run.seed,
        "ranks": ranks,
        "threads": config.scaling.threads_per_worker,
    }


class StageCheck:
    """Figures of the model as it is: validation texts rewritten greedily, by all ranks together, known to each."""

    def __init__(self, config: TrainRewriterConfig, loaded: LoadedModel, pairs: PreparedPairs) -> None:
        self._config, self._loaded = config, loaded
        every = cases(pairs.part("validation"))
        most = config.evaluation.stage_texts or len(every)
        chosen = np.random.default_rng(config.run.seed).permutation(len(every))[:most]
        self._cases = [every[at] for at in sorted(chosen)]
        judge = pairs.part("judge")
        self._toxicity = SideScorer.fit(*columns(judge)) if judge else None
        english = any(case.lang == ENGLISH for case in self._cases)
        self._encoder = MiniLm() if english and config.evaluation.bert_score else None

    def __call__(self) -> Figures:
        outputs = self._rewritten()
        if self._toxicity is None or not outputs:
            return {}
        figures = greedy_figures(self._cases, outputs, self._toxicity)
        if self._encoder is not None:
            english = [at for at, case in enumerate(self._cases) if case.lang == ENGLISH]
            references = [self._cases[at].references for at in english]
            figures["bert_score"] = float(self._encoder.bert_score([outputs[at] for at in english], references).mean())
        return figures

    def _rewritten(self) -> list[str]:
        ranks = dist.get_world_size() if dist.is_initialized() else 1
        rank = dist.get_rank() if ranks > 1 else 0
        mine = rewrite_greedily(self._loaded, self._cases[rank::ranks], self._config)
        shares: list[Any] = [mine]
        if ranks > 1:
            shares = [None] * ranks
            dist.all_gather_object(shares, mine)
        outputs = [""] * len(self._cases)
        for at, share in enumerate(shares):
            outputs[at::ranks] = share
        return outputs


def columns(rows: Sequence[PairRow]) -> tuple[list[str], list[str], list[str]]:
    """Toxic sides, neutral sides, languages."""
    return [row.toxic for row in rows], [row.neutral for row in rows], [row.lang for row in rows]


def rewrite_greedily(loaded: LoadedModel, wanted: Sequence[Case], config: TrainRewriterConfig) -> list[str]:
    """The model's own likeliest rewrite of each source: no control, no reranking."""
    settings = GenerationSettings(max_new_tokens=config.model.max_target_tokens)
    texts = [prompted(case.source, case.lang, config.model) for case in wanted]
    if not texts:
        return []
    was_training = loaded.model.training
    loaded.model.eval()
    ids = loaded.tokenizer(texts, truncation=True, max_length=config.model.max_source_tokens)["input_ids"]
    found = generate(loaded.model, ids, settings)
    loaded.model.train(was_training)
    return decode([row[0].tokens for row in found], loaded.tokenizer)


def decode(tokens: list[list[int]], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    return [text.strip() for text in tokenizer.batch_decode(tokens, skip_special_tokens=True)]


def greedy_figures(
    wanted: Sequence[Case], outputs: Sequence[str], toxicity: Callable[[Sequence[str], Sequence[str]], np.ndarray]
) -> Figures:
    """What a stage's rewrites are worth, 0..1 each."""
    sources, langs = [case.source for case in wanted], [case.lang for case in wanted]
    references = [list(case.references) for case in wanted]
    before_N, after_N = toxicity(sources, langs), toxicity(outputs, langs)
    similarity_N, chrf_N = character_similarity(sources, outputs, langs), chrf(outputs, references)
    found = copies(sources, outputs, before_N)
    rows = {
        "copy_rate": found.exact_N,
        "copy_rate_normalised": found.normalised_N,
        "toxic_copy_rate": found.residual_N,
        "exact_match": matches_reference(outputs, references),
        "toxicity_before": before_N,
        "toxicity_after": after_N,
        "similarity": similarity_N,
        "chrf": chrf_N,
        "bleu": bleu(outputs, references),
        "joint": pan2024_joint(1 - after_N, similarity_N, chrf_N),
    }
    return {name: float(np.mean(values)) for name, values in rows.items()}
