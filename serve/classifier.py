"""The classifier behind the gateway: texts in, probabilities out, in batches by tokens.

`ClassifierService` is plain; `ClassifierReplica` is what Serve runs. A text is cleaned and cut into windows when it
comes; windows of all requests wait together until the engine has room for a batch, and travel in one of at most
`batch_tokens`. Within a batch windows are computed once each, sorted by length (`detox.classifier.engine`).

Shapes: N texts, W windows, L labels.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from serve.artifacts import check_version, run_name, servable
from serve.batching import Batcher
from serve.faults import without_texts
from serve.judge import Model
from serve.settings import ClassifierSettings

if TYPE_CHECKING:
    from detox.classifier.engine import Engine
    from detox.classifier.exported import EngineName
    from detox.classifier.model_scorers import TransformerScorer
    from detox.models.loading import Dtype

Window = list[int]
"""Token ids."""
SHORT = 2000
"""Characters that are tokenised where they arrive: to hand them to a thread would take longer."""
PARITY_TEXTS = 500
PROBE_SECONDS = 25.0
"""Serve's own limit is `health_check_timeout_s`."""
MOST_SECONDS_A_BATCH = 120.0
"""A batch that takes longer is taken for one that hangs, though another thread may still answer the probe."""
WARM_UP = ("Thank you.", "You idiot, read page 12 again. " * 40)


class ClassifierService:
    """A classifier's artifact, ready to score.

    Args:
        settings: names the artifact; its manifest must hold.

    Attributes:
        model: what it is.

    Raises:
        ValueError: the manifest does not hold, or the engine does not agree with torch.
    """

    def __init__(self, settings: ClassifierSettings) -> None:
        import torch

        from detox.classifier.model_scorers import ARTIFACT, load_artifact
        from detox.classifier.training import resolve_precision

        folder, version = servable(settings.model)
        threads = settings.threads or torch.get_num_threads()
        torch.set_num_threads(threads)
        self._folder = folder
        if settings.engine == "torch":
            is_half = settings.dtype == "auto" and resolve_precision("auto") == "bf16"
            dtype: Dtype = "bfloat16" if is_half or settings.dtype == "bfloat16" else "float32"
            self._scorer = load_artifact(folder, dtype=dtype)
            self._engine, computes_in = self._scorer.engine, str(dtype)
        else:
            self._scorer = load_artifact(folder, device="cpu")
            self._engine = agreeing(self._scorer, settings.engine, version, threads)
            computes_in = {"onnx_int8": "int8"}.get(settings.engine, settings.engine)
        facts = json.loads((folder / ARTIFACT).read_text(encoding="utf-8"))
        self.model = Model(
            run_name(settings.model),
            version,
            self._scorer.labels,
            {label: float(value) for label, value in self._scorer.thresholds.items()},
            tuple(facts["cleaning"]["languages"]),
            computes_in,
            settings.batch_tokens,
        )

    @property
    def calls_at_a_time(self) -> int:
        """Of `forward`, from several threads: as many as help."""
        return self._engine.calls_at_a_time

    def windows(self, texts: Sequence[str]) -> tuple[list[Window], list[int]]:
        """Windows of the cleaned texts, and which text each is of."""
        found = self._engine.windows([self._scorer.clean(text) for text in texts])
        return found.ids, found.text

    def forward(self, windows: Sequence[Window]) -> np.ndarray:
        """Probabilities of windows `[W, L]`, equal ones computed once."""
        distinct = {ids: at for at, ids in enumerate(dict.fromkeys(map(tuple, windows)))}
        scores_WL = self._engine.window_probabilities(list(map(list, distinct)))
        return scores_WL[[distinct[tuple(ids)] for ids in windows]]

    def explain(self, text: str, label: str, method: str) -> dict[str, Any]:
        """Which words made the score, by torch in float32, whose gradients it takes (`detox.classifier.explain`)."""
        from detox.classifier.explain import explain
        from detox.classifier.explanation import UNITS

        found = explain(self._explained, text, label, method)  # type: ignore[arg-type]
        return found.to_dict() | {"unit": UNITS[found.method]}

    @cached_property
    def _explained(self) -> TransformerScorer:
        """The model a second time, loaded when the first explanation is asked for: explaining changes it for a while,
        and takes long, and scores should not have to wait."""
        from detox.classifier.model_scorers import load_artifact

        check_version("the classifier", self.model.version, servable(str(self._folder))[1])
        return load_artifact(self._folder)


def agreeing(scorer: TransformerScorer, name: EngineName, version: str, threads: int) -> Engine:
    """Another engine for the scorer's model, once it agrees with torch on comments of the synthetic corpus.

    Raises:
        ValueError: it does not agree.
    """
    from detox.classifier.exported import check_parity, exported, parity
    from detox.data.synthetic import generate

    texts = [scorer.clean(text) for text in generate(PARITY_TEXTS)["text"].to_pylist()]
    engine = exported(scorer.engine, name, engines_folder() / version, threads)
    thresholds_L = [scorer.thresholds[label] for label in scorer.labels]
    check_parity(name, parity(engine.probabilities(texts), scorer.engine.probabilities(texts), thresholds_L))
    return engine


def engines_folder() -> Path:
    """Exported models, by version."""
    return Path.home() / ".cache" / "toxicity-lab" / "engines"


def over_texts(scores_WL: np.ndarray, owners: Sequence[int], count: int) -> np.ndarray:
    """The highest score over each text's windows `[N, L]`."""
    scores_NL = np.zeros((count, scores_WL.shape[1]), np.float32)
    np.maximum.at(scores_NL, np.asarray(owners, np.int64), scores_WL)
    return scores_NL


def tokens_of(windows: Sequence[Window]) -> int:
    return sum(map(len, windows))


def groups(windows: Sequence[Window], most_tokens: int) -> Iterator[list[Window]]:
    """Windows in their order, in groups of at most so many tokens, so that a large request shares batches too."""
    group: list[Window] = []
    held = 0
    for ids in windows:
        if group and held + len(ids) > most_tokens:
            yield group
            group, held = [], 0
        group.append(ids)
        held += len(ids)
    if group:
        yield group


class ClassifierReplica:
    """What Serve runs. As many threads have the model that scores as are of use to its engine, another the one that is
    explained."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = ClassifierSettings.model_validate(settings)
        self._service = ClassifierService(self._settings)
        self._service.forward(self._service.windows(WARM_UP)[0])
        self._probe = self._service.windows(WARM_UP[:1])[0]
        slots = self._service.calls_at_a_time
        self._model_threads = ThreadPoolExecutor(slots, thread_name_prefix="model")
        self._explain_thread = ThreadPoolExecutor(1, thread_name_prefix="explain")
        self._batches: Batcher[list[Window], np.ndarray] = Batcher(
            self._computed, tokens_of, self._settings.batch_tokens, slots
        )

    async def check_health(self) -> None:
        """Serve asks every few seconds: a model that fails or hangs is replaced.

        Raises:
            TimeoutError, ValueError: it does.
        """
        self._batches.check(MOST_SECONDS_A_BATCH)
        await asyncio.wait_for(self._forward(self._probe), PROBE_SECONDS)

    async def facts(self) -> Model:
        """Of the model, for the gateway."""
        return self._service.model

    async def score(self, texts: list[str]) -> tuple[Model, np.ndarray]:
        """The model, and its probabilities of the texts `[N, L]`, of which there is at least one."""
        with without_texts():
            is_short = sum(map(len, texts)) <= SHORT
            windows, owners = (
                self._service.windows(texts) if is_short else await asyncio.to_thread(self._service.windows, texts)
            )
            parts = groups(windows, self._settings.batch_tokens)
            scores = await asyncio.gather(*(self._batches(part) for part in parts))
        return self._service.model, over_texts(np.concatenate(scores), owners, len(texts))

    async def explain(self, text: str, label: str, method: str) -> tuple[Model, dict[str, Any]]:
        """The model; see `ClassifierService.explain`."""
        loop = asyncio.get_running_loop()
        with without_texts():
            found = await loop.run_in_executor(self._explain_thread, self._service.explain, text, label, method)
        return self._service.model, found

    async def _computed(self, requests: list[list[Window]]) -> list[np.ndarray]:
        scores_WL = await self._forward([ids for windows in requests for ids in windows])
        return np.split(scores_WL, np.cumsum([len(windows) for windows in requests])[:-1])

    async def _forward(self, windows: Sequence[Window]) -> np.ndarray:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._model_threads, self._service.forward, windows)
