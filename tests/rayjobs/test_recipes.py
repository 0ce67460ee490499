"""Every recipe of every job runs two steps as it stands: real names from the stub hub, tiny models behind them.

Only what makes a run short and local is overridden (`SHORT`): two steps, no Ray, no GPU, the test's own storage. The
recipes of one job share a subprocess, since the hub's address is read when its libraries are imported.
"""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import pipeline

from detox.classifier.face import Classifier
from detox.data.prepared import PreparedData
from detox.data.sources import SOURCES
from detox.governance.manifest import verify_manifest
from rayjobs import cli, train_classifier
from rayjobs.__main__ import jobs
from rayjobs.train_classifier import JIGSAW_LABELS
from tests.hub import HEAD_COMMIT, run_python, stub_hub
from tests.hub_contents import write_csv, write_datasets, write_lines, write_models
from tests.rayjobs.test_finetune import ALIGN_POLICY
from tests.rayjobs.test_finetune import RECIPES as FINETUNE
from tests.rayjobs.test_rewriter_recipes import TRAIN_REWRITER

SHORT = ["--optimiser.max-steps", "2", "--scaling.num-workers", "0", "--scaling.use-gpu", "False"]
TRAIN_CLASSIFIER: dict[str, list[str]] = {
    "cleanspeech": ["--data.local", "{tmp}/jigsaw", "--submission", "{tmp}/jigsaw/test.csv"],
    "toxicity_regressor": [],
    "minilm": ["--data.source", "{tmp}/comments.csv", "--data.label-columns", "toxic"],
    "demo": ["--data.limit", "300"],
}
"""What each recipe needs of its user beside `SHORT`; `demo` reads less of its corpus, for speed."""
PREPARE_DATA: dict[str, dict[str, object]] = {
    "jigsaw2018": {"data.local": "{tmp}/jigsaw"},
    "civil_comments": {},
    "toxic_commons": {},
    "real_toxicity_prompts": {},
    "davidson": {},
    "conda": {"data.local": "{tmp}/local"},
    "gosuai_dota2": {"data.local": "{tmp}/local"},
    "hh_rlhf": {},
    "toxic_spans": {"data.local": "{tmp}/local"},
    "judge_pairs": {"data.local": "{tmp}/local"},
    "samsum": {},
    "dialogsum": {"data.local": "{tmp}/local"},
    "hh_dialogues": {},
    "synthetic": {"data.limit": 300},
    "files": {"data.source": ["{tmp}/comments.csv"], "data.label_columns": ["toxic"]},
}
"""The same for data: a local copy where the hub has none."""
SMOKE_TESTED: dict[str, set[str]] = {
    "align_policy": {"rewriter_ppo", "demo", *ALIGN_POLICY},  # in test_align_policy.py, test_finetune.py
    "finetune": set(FINETUNE),  # in tests/rayjobs/test_finetune.py
    "train_classifier": set(TRAIN_CLASSIFIER),
    "train_rewriter": set(TRAIN_REWRITER),  # in tests/rayjobs/test_rewriter_recipes.py
    "prepare_data": set(PREPARE_DATA),
    "score_corpus": {"default"},  # in tests/rayjobs/test_score_corpus.py
    "rewrite_corpus": {"default"},  # in tests/rayjobs/test_rewrite_corpus.py
    "load_test": {"default"},  # in tests/rayjobs/test_load_test.py
    "evaluate_model": {"default", "constrained"},  # in tests/rayjobs/test_evaluate_model.py
    "evaluate": {"rewriters", "classifier"},  # in tests/rayjobs/test_evaluate.py, tests/classifier/test_measuring.py
}
TEXTS = ["thank you for the edit", "you are an idiot", "nice page", "stupid remark about bridges"]
"""Cleaning leaves them as they are, so that a plain pipeline sees what the run's classifier sees."""

WORDS = ("bridge", "violin", "harbour", "orchard", "glacier", "lantern", "museum", "saddle", "walnut", "pebble")


def sentence(number: int) -> str:
    """Five words and a number, unlike those of other numbers; each third is an insult."""
    word = "idiot" if number % 3 == 0 else "friend"
    return f"{' '.join(WORDS[int(digit)] for digit in f'{number * 7919 % 100_000:05d}')} {word} {number * 104729}"


def write_jigsaw(folder: Path) -> None:
    """Kaggle's three files: 90 rows to train, 40 to test, of which the last 15 were not scored (-1)."""

    def values(number: int) -> dict[str, int]:
        return {label: int(number % 3 == 0 and number % (index + 1) == 0) for index, label in enumerate(JIGSAW_LABELS)}

    def row(number: int) -> dict[str, str]:
        return {"id": f"{number:016x}", "comment_text": sentence(number)}

    write_csv(folder / "train.csv", [row(n) | values(n) for n in range(90)])
    write_csv(folder / "test.csv", [row(n) for n in range(90, 130)])
    unscored = dict.fromkeys(JIGSAW_LABELS, -1)
    labels = [{"id": row(n)["id"]} | (values(n) if n < 115 else unscored) for n in range(90, 130)]
    write_csv(folder / "test_labels.csv", labels)


def write_local_copies(folder: Path) -> None:
    """The files of the sources that the hub does not have, Jigsaw aside."""
    texts = [sentence(number) for number in range(60)]
    intents = [{"utterance": text, "intentClass": "E" if n % 3 == 0 else "O"} for n, text in enumerate(texts)]
    write_csv(folder / "CONDA_train.csv", intents)
    write_lines(folder / "dialogsum.train.jsonl", [{"dialogue": f"#Person1#: {text}"} for text in texts])
    write_csv(folder / "dota2_chat_messages.csv", [{"match": n, "time": n, "text": t} for n, t in enumerate(texts)])
    write_csv(
        folder / "tsd_train.csv", [{"spans": f"[{n}]" if n % 3 else "[]", "text": t} for n, t in enumerate(texts)]
    )
    pairs = {"toxic": texts, "neutral": [f"please, {text}" for text in texts]}
    pq.write_table(pa.table(pairs), folder / "judge.parquet")


RUN_EACH = """
import json, sys
from pathlib import Path
from detox.data.prepare import prepare
from detox.runs.config import override
from rayjobs import cli, prepare_data, train_classifier
for recipe, words in json.loads(sys.argv[1]).items():
    cli.main(train_classifier.JOB, "", train_classifier.RECIPES, train_classifier.run, [recipe, *words])
for recipe, patch in json.loads(sys.argv[2]).items():
    data = override(prepare_data.RECIPES[recipe](), patch).data
    prepare(data, Path(sys.argv[3]) / recipe, seed=1)
"""


@pytest.fixture(scope="module")
def tmp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Local inputs, a finished run of every recipe of `train_classifier` in `runs/`, named as the recipe, and what
    every recipe of `prepare_data` makes in `prepared/` (without Ray, which changes nothing)."""
    tmp = tmp_path_factory.mktemp("recipes")
    write_jigsaw(tmp / "jigsaw")
    write_local_copies(tmp / "local")
    write_csv(tmp / "comments.csv", [{"text": sentence(n), "toxic": int(n % 3 == 0)} for n in range(90)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.hub_contents.comment", sentence)
        patch.setattr("tests.hub_contents.hh_dialogues", dialogues)
        datasets = write_datasets(tmp / "hub", rows=60)
    words = {
        recipe: [*own, *SHORT, "--run.storage", "{tmp}/runs", "--run.name", recipe]
        for recipe, own in TRAIN_CLASSIFIER.items()
    }
    with stub_hub(tmp / "hf_home", models=write_models(tmp / "hub"), datasets=datasets) as hub:
        plans = (json.dumps(plan).replace("{tmp}", str(tmp)) for plan in (words, PREPARE_DATA))
        run_python(hub, RUN_EACH, *plans, str(tmp / "prepared"))
    return tmp


def dialogues(number: int) -> dict[str, str]:
    start = "\n\nHuman: Hi\n\nAssistant:"
    return {"chosen": f"{start} {sentence(2 * number)}", "rejected": f"{start} {sentence(2 * number + 1)}"}


@pytest.fixture(scope="module")
def runs(tmp: Path) -> Path:
    return tmp / "runs"


def summary(run: Path) -> dict[str, object]:
    return json.loads((run / "summary.json").read_text(encoding="utf-8"))


def test_every_recipe_has_a_smoke_test() -> None:
    """A new job, or a new recipe, fails here until it is run in this file, or this file says where it is."""
    untested = {(job, recipe) for job in jobs() for recipe in {*jobs()[job]} - SMOKE_TESTED.get(job, set())}
    assert untested == set()


@pytest.mark.parametrize("recipe", PREPARE_DATA)
def test_data_are_prepared(tmp: Path, recipe: str) -> None:
    data = PreparedData.open(tmp / "prepared" / recipe)
    assert data.labels == (("toxic",) if recipe == "files" else SOURCES[recipe].labels)
    assert min(data.facts["rows"].values()) > 0
    pinned = "" if PREPARE_DATA[recipe] else SOURCES[recipe].revision
    assert data.facts["sources"][0]["revision"] == (HEAD_COMMIT if pinned == "main" else pinned)


@pytest.mark.parametrize("recipe", TRAIN_CLASSIFIER)
def test_a_run_is_complete(runs: Path, recipe: str) -> None:
    run = runs / recipe
    assert (run / "COMPLETE").exists()
    manifest = verify_manifest(run / "artifact")
    assert (manifest["job"], manifest["run"], manifest["classification"]) == ("train_classifier", recipe, "open")
    figures = summary(run)
    assert all(math.isfinite(value) for value in figures.values() if not isinstance(value, str))
    assert sum(name.startswith("baseline/") for name in figures) > 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "<svg" in page or "data:image" in page
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//|url\(\s*["']?(?:https?:)?//|@import""", page)


@pytest.mark.parametrize("recipe", TRAIN_CLASSIFIER)
def test_a_plain_pipeline_gives_the_same_scores(runs: Path, recipe: str) -> None:
    ours = Classifier.load(str(runs / recipe)).predict(TEXTS)
    plain = pipeline(
        "text-classification", str(runs / recipe / "artifact"), top_k=None, function_to_apply="sigmoid", device="cpu"
    )
    for row, theirs in zip(ours, plain(TEXTS), strict=True):
        assert {item["label"]: item["score"] for item in theirs} == pytest.approx(row.probabilities, abs=1e-5)


def test_cleanspeech_is_s3(runs: Path) -> None:
    """The official test has 40 rows, 15 of them not scored: 25 are measured on, and all 40 are in the submission."""
    run = runs / "cleanspeech"
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    assert config["model"]["name"] == "microsoft/mdeberta-v3-base"
    assert (config["loss"]["name"], config["data"]["cleaning"]["preset"]) == ("weighted_bce", "cleanspeech")
    model = json.loads((run / "artifact" / "config.json").read_text(encoding="utf-8"))
    assert model["problem_type"] == "multi_label_classification"
    assert model["model_type"] == "deberta-v2"
    assert tuple(model["id2label"].values()) == JIGSAW_LABELS
    described = json.loads((run / "artifact" / "detox.json").read_text(encoding="utf-8"))
    assert described["base_model"] == "microsoft/mdeberta-v3-base"
    assert described["base_revision"] == "a0484667b22365f84929a935b5e50a51f71f159d"
    assert described["cleaning"]["preset"] == "cleanspeech"
    figures = summary(run)
    assert [figures[f"test/rows/{label}"] for label in JIGSAW_LABELS] == [25] * 6
    data = Path(str(figures["data"]))
    test = pq.read_table(data / "test.parquet")
    assert test.num_rows == 40
    assert [test.column(label).null_count for label in JIGSAW_LABELS] == [15] * 6
    assert [pq.read_metadata(data / f"{part}.parquet").num_rows for part in ("train", "validation")] == [72, 18]


def test_cleanspeech_writes_the_competitions_file(runs: Path) -> None:
    with (runs / "cleanspeech" / "submission.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", *JIGSAW_LABELS]
    assert [row["id"] for row in rows] == [f"{number:016x}" for number in range(90, 130)]
    values_NL = np.array([[float(row[label]) for label in JIGSAW_LABELS] for row in rows])
    assert ((values_NL > 0) & (values_NL < 1)).all()


def test_toxicity_regressor_is_s1(runs: Path) -> None:
    run = runs / "toxicity_regressor"
    described = json.loads((run / "artifact" / "detox.json").read_text(encoding="utf-8"))
    assert (described["task"], described["labels"]) == ("regression", ["toxicity"])
    assert described["base_model"] == "microsoft/deberta-v3-base"
    assert described["temperature"] == {}
    figures = summary(run)
    for side in ("test", "baseline"):
        assert {f"{side}/{name}/toxicity" for name in ("mse", "mae", "r2", "spearman")} <= figures.keys()
    assert "mean squared error" in str(figures["headline"])


def test_a_finished_run_is_found_again(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same command does nothing; here for the recipe that needs no hub."""
    before = (runs / "demo" / "COMPLETE").stat().st_mtime_ns
    words = ["demo", *TRAIN_CLASSIFIER["demo"], *SHORT, "--run.storage", str(runs), "--run.name", "demo"]
    cli.main(train_classifier.JOB, "", train_classifier.RECIPES, train_classifier.run, words)
    assert "already complete" in capsys.readouterr().out
    assert (runs / "demo" / "COMPLETE").stat().st_mtime_ns == before
