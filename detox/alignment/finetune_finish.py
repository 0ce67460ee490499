"""From the last step's weights to everything that a tuning leaves behind.

Writes `artifact/` (a whole model, or adapters as safetensors with the name and revision of their base), measures it and
what it began as on the test part, and writes `responses.parquet`, `summary.json`, `report.html`.

Shapes: N prompts, M examples.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from detox.alignment.asked import Asked, asked_of, beginning_token, learnt_texts, texts_of
from detox.alignment.finetune_report import SAMPLES, card, finetune_report, headline
from detox.alignment.finetune_settings import ONLINE, FinetuneConfig
from detox.alignment.monitors import Beginning, Measured, measure
from detox.alignment.ngram_baseline import ngram_nats
from detox.alignment.ranker import Ranker
from detox.alignment.responses import Responses, compare_responses
from detox.alignment.responses_report import guard_sentence
from detox.alignment.settings import AlignModelConfig
from detox.alignment.trl_rows import usable
from detox.alignment.tunable import Tunable, written
from detox.alignment.tuning import beginning_of
from detox.classifier.model_scorers import model_parent
from detox.classifier.report import run_facts
from detox.classifier.scorer import load_toxicity
from detox.data.examples.example import Example, PreparedExamples
from detox.evaluation.statistics import Comparison, mean_of_means
from detox.governance.manifest import describe
from detox.models.loading import LoadedModel, device_named, local_folder
from detox.runs.config import digest, identity
from detox.runs.environment import with_worker
from detox.runs.progress import say
from detox.runs.rundir import RunDirectory
from detox.runs.storage import Storage

TuningConfig = FinetuneConfig | AlignModelConfig

WORD = re.compile(r"\w{3,}")


class Outcome(NamedTuple):
    """What a tuning changed."""

    before: dict[str, float]
    after: dict[str, float]
    changes: dict[str, Comparison]
    """Of figures that are a mean over prompts or examples, paired."""
    responses: Responses | None = None
    """Where the data have some to compare with; its figures are among the others."""


def finish(config: TuningConfig, recipe: str, run_uri: str, examples_uri: str) -> dict[str, dict[str, Any]]:
    """Write the artifact, measure it against what it began as, and report.

    Returns:
        the description of `artifact` for its manifest, which the caller signs: a worker node has another key.

    Raises:
        ValueError: the test part has nothing to measure by.
    """
    run = RunDirectory(Storage(run_uri))
    run.write_json("environment.json", with_worker(run.read_json("environment.json")))
    torch.set_num_threads(max(1, config.scaling.num_workers) * config.scaling.threads_per_worker)
    with tempfile.TemporaryDirectory(prefix="detox-finish-") as scratch:
        folder = Path(scratch)
        examples = PreparedExamples.open(Storage(examples_uri).localise(folder / "examples"))
        beginning = beginning_of(config, examples.part("train"), folder)
        trained = run.trained.localise(folder / "trained")
        artifact = write_artifact(folder / "artifact", trained, config, beginning)
        test = usable(examples.part("test"), config.method)
        if not test:
            raise ValueError("the test part has no example to measure by: raise its share in --data.ratios")
        say(run, f"measuring on {len(test):,} test examples")
        if config.method == "reward":
            outcome, table = rank_all(config, artifact, test)
        else:
            outcome, table = compare(config, beginning, artifact, test, examples.part("train"))
        masked = toxic_words(config.evaluation.judge, table)
        job = run.read_json("config.json")["_job"]
        facts = run_facts(run, job, recipe, config, examples.facts, masked_words=masked)
        run.storage.write_text("report.html", finetune_report(outcome, facts, config, table).render())
        with tempfile.TemporaryDirectory(prefix="detox-responses-") as place:
            pq.write_table(table, Path(place) / "responses.parquet")
            run.storage.add_files(Path(place))
        flat = summary_of(outcome, config) | {"examples": examples.facts["digest"]}
        run.write_json("summary.json", flat)
        (artifact / "README.md").write_text(card(outcome, facts, config, beginning.loaded), encoding="utf-8")
        source = {"name": "examples", "digest": examples.facts["digest"], "classification": "open"}
        parent = model_parent(config.model.name, beginning.loaded.revision, config.run.seed)
        origin = {"run": run.name, "job": job, "config_sha256": digest(identity(config))}
        description = describe(artifact, origin, [source, parent])
        run.storage.upload(artifact, "artifact")
    return {"artifact": description}


def write_artifact(folder: Path, trained: Path, config: TuningConfig, beginning: Tunable) -> Path:
    """What TRL saved, without what only training needs, in Hugging Face's layout."""
    folder.mkdir()
    for path in trained.iterdir():
        if path.is_file() and path.suffix in (".json", ".safetensors", ".jinja", ".model", ".txt"):
            shutil.copyfile(path, folder / path.name)
    beginning.loaded.tokenizer.save_pretrained(folder)
    adapters = folder / "adapter_config.json"
    if adapters.is_file() and beginning.adapters is not None:
        facts = json.loads(adapters.read_text(encoding="utf-8"))
        facts["base_model_name_or_path"] = lasting_name(config.model.name)
        facts["revision"] = beginning.loaded.revision or None
        adapters.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return folder


def lasting_name(name: str) -> str:
    """Of a model, for adapters that stand on it: a folder's whole path, a remote URI as it is, the hub's without the
    revision, which adapters name beside."""
    if "://" in name:  # not the temporary copy of it
        return name
    folder = local_folder(name)
    return str(folder.resolve()) if folder else name.partition("@")[0]


def compare(
    config: TuningConfig, beginning: Tunable, artifact: Path, test: Sequence[Example], train: Sequence[Example]
) -> tuple[Outcome, pa.Table]:
    """Both models on the same test prompts and responses; each model is loaded, measured, and let go.

    Args:
        train: what an n-gram model learns from, where the settings ask for one.
    """
    settings, tokenizer = config.evaluation, beginning.loaded.tokenizer
    asked = asked_of(test, beginning.loaded, config, settings)
    pairs = [example for example in test if example.rejected]
    device = device_named("" if config.scaling.use_gpu else "cpu")
    seed = config.run.seed
    started: Any = beginning.loaded.model.to(device).eval()  # type: ignore[arg-type]
    before = measure(started, None, tokenizer, asked, settings.max_new_tokens, seed, settings.decoding)
    margins_before_M = margins(started, beginning.loaded, pairs, config)
    reference = Beginning(started, is_adapted=beginning.is_adapted)
    model = load_tuned(artifact, beginning).to(device).eval()
    after = measure(model, reference, tokenizer, asked, settings.max_new_tokens, seed, settings.decoding)
    margins_M = margins(model, beginning.loaded, pairs, config) - margins_before_M
    toxicity = load_toxicity(settings.judge) if settings.judge else None
    judged = [
        toxicity(one.responses, [""] * len(one.responses)) if toxicity and one.responses else None
        for one in (before, after)
    ]
    outcome = outcome_of(before, after, judged, margins_M)
    if settings.ngram and asked.texts:
        learned = list(learnt_texts(train, beginning.loaded, config))
        begin, vocabulary = beginning_token(tokenizer), len(tokenizer)
        beside_ngram(outcome, after, ngram_nats(learned, asked.texts, begin, vocabulary, settings.ngram))
    guarded = config.method in (*ONLINE, "ppo")
    said = compare_responses(asked.examples, before.responses, after.responses, toxicity, settings, guarded)
    if said is not None:
        outcome = Outcome(
            outcome.before | said.before, outcome.after | said.after, outcome.changes | said.changes, said
        )
    return outcome, responses_table(asked, tokenizer, before, after, judged)


def load_tuned(artifact: Path, beginning: Tunable) -> Any:
    """The tuned model: adapters on the very weights that they were trained on, or a whole model."""
    if not (artifact / "adapter_config.json").is_file():
        kind = AutoModelForSeq2SeqLM if beginning.is_encoder_decoder else AutoModelForCausalLM
        return kind.from_pretrained(artifact, dtype=beginning.loaded.model.dtype)
    if isinstance(beginning.loaded.model, PeftModel):
        beginning.loaded.model.load_adapter(str(artifact), "tuned")
        beginning.loaded.model.set_adapter("tuned")
        return beginning.loaded.model
    return PeftModel.from_pretrained(beginning.loaded.model, str(artifact))


def margins(model: Any, loaded: LoadedModel, pairs: Sequence[Example], config: TuningConfig) -> np.ndarray:
    """How much likelier the better response of each pair is, in nats, float64 `[M]`."""
    sums: list[np.ndarray] = []
    for side in ("chosen", "rejected"):
        rows = [Example(example.prompt, getattr(example, side)) for example in pairs]
        texts = list(texts_of(rows, loaded, config))
        found = measure(model, None, loaded.tokenizer, Asked([], texts), 1)
        sums.append(-found.nats_M * found.tokens_M)
    return sums[0] - sums[1]


def outcome_of(
    before: Measured, after: Measured, judged: Sequence[np.ndarray | None], margins_M: np.ndarray
) -> Outcome:
    first, second = before.figures(), after.figures()
    changes: dict[str, Comparison] = {}
    toxic_before, toxic_after = judged
    if toxic_before is not None and toxic_after is not None:
        first["toxicity"], second["toxicity"] = float(toxic_before.mean()), float(toxic_after.mean())
        changes["toxicity"] = mean_of_means([toxic_after - toxic_before])
    if len(before.nats_M):
        first["nats"], second["nats"] = float(before.nats_M.mean()), float(after.nats_M.mean())
        changes["nats"] = mean_of_means([after.nats_M - before.nats_M])
    if len(margins_M):
        second["preference_accuracy"] = float((margins_M > 0).mean())
        changes["preference_accuracy"] = mean_of_means([(margins_M > 0) - 0.5])
    return Outcome(first, second, changes)


def beside_ngram(outcome: Outcome, after: Measured, ngram_M: np.ndarray) -> None:
    """Add what the n-gram model makes of the same tokens.

    Args:
        ngram_M: its nats a token of each text.
    """
    outcome.after["ngram_perplexity"] = math.exp(float(np.average(ngram_M, weights=after.tokens_M)))
    outcome.after["below_ngram"] = float((ngram_M - after.nats_M).mean())
    outcome.changes["below_ngram"] = mean_of_means([ngram_M - after.nats_M])


def responses_table(
    asked: Asked, tokenizer: Any, before: Measured, after: Measured, judged: Sequence[np.ndarray | None]
) -> pa.Table:
    """A row a test prompt: what was said before and after, and how toxic the judge finds it."""
    columns: dict[str, Any] = {
        "prompt": tokenizer.batch_decode(asked.prompts, skip_special_tokens=True) if asked.prompts else [],
        "before": before.responses,
        "after": after.responses,
        "kl": after.kl_N,
    }
    for name, values_N in zip(("toxicity_before", "toxicity_after"), judged, strict=True):
        if values_N is not None:
            columns[name] = values_N
    return pa.table(columns)


def toxic_words(judge: str, table: pa.Table) -> list[str]:
    """Words of the samples that the judge finds toxic by themselves, which a report masks; none without a judge."""
    if not judge or "before" not in table.column_names:
        return []
    shown = table.slice(0, SAMPLES).to_pylist()
    words = sorted(
        {word for row in shown for name in ("prompt", "before", "after") for word in WORD.findall(row[name])}
    )
    toxicity_N: Sequence[float] | np.ndarray = load_toxicity(judge)(words, [""] * len(words)) if words else []
    return [word for word, value in zip(words, toxicity_N, strict=True) if value >= 0.5]


def rank_all(config: TuningConfig, artifact: Path, test: Sequence[Example]) -> tuple[Outcome, pa.Table]:
    """How often the ranker finds the better response, against guessing; of pairs that it can read whole, as it learnt
    from."""
    ranker = Ranker.load(str(artifact), config.model.max_tokens, device="" if config.scaling.use_gpu else "cpu")
    every = len(test)
    test = [one for one in test if all(ranker.fits(one.prompt, text) for text in (one.chosen, one.rejected))]
    if not test:
        raise ValueError(
            f"none of {every:,} test pairs fits into {config.model.max_tokens} tokens: raise --model.max-tokens"
        )
    prompts = [example.prompt for example in test]
    chosen_M = ranker.score(prompts, [example.chosen for example in test])
    rejected_M = ranker.score(prompts, [example.rejected for example in test])
    right_M = (chosen_M > rejected_M).astype(np.float64)
    after = {
        "preference_accuracy": float(right_M.mean()),
        "margin": float((chosen_M - rejected_M).mean()),
        "pairs_too_long": float(every - len(test)),
    }
    table = pa.table(
        {
            "prompt": [written(example.prompt, ranker.tokenizer) for example in test],
            "chosen": [example.chosen for example in test],
            "rejected": [example.rejected for example in test],
            "chosen_score": chosen_M,
            "rejected_score": rejected_M,
        }
    )
    return Outcome({"preference_accuracy": 0.5}, after, {"preference_accuracy": mean_of_means([right_M - 0.5])}), table


def summary_of(outcome: Outcome, config: TuningConfig) -> dict[str, Any]:
    """Flat figures: `before/…`, `after/…`, `change/…` with `change_low/…` and `change_high/…`, of the data's responses
    `data/…`, the guards' verdict, and the headline; what is undefined is left out."""
    flat: dict[str, Any] = {f"before/{name}": value for name, value in outcome.before.items()}
    flat |= {f"after/{name}": value for name, value in outcome.after.items()}
    for name, change in outcome.changes.items():
        flat |= {
            f"change/{name}": change.difference,
            f"change_low/{name}": change.low,
            f"change_high/{name}": change.high,
            f"change_p/{name}": change.p_value,
        }
    if outcome.responses is not None:
        flat |= {f"data/{name}": value for name, value in outcome.responses.data.items()}
        flat |= {f"guard/{guard.name}": float(guard.holds) for guard in outcome.responses.guards}
    known = {name: value for name, value in flat.items() if math.isfinite(value)}
    if outcome.responses is not None and outcome.responses.guards:
        known["guards"] = guard_sentence(outcome.responses)
    return known | {"method": config.method, "headline": headline(outcome, config)}
