"""Bad input for `train_classifier`: a sentence and exit status 2 before any training, and the name stays free.

Everything runs in this process (`--scaling.num-workers 0`); the last test shows that a corrected command may take the
run name of a failed one.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from detox.data.prepare import prepare
from detox.data.settings import CleaningSettings, DataSettings
from rayjobs import cli
from rayjobs.train_classifier import JOB, RECIPES, run

LEAST = ["--model.name", "tiny/bert", "--scaling.num-workers", "0", "--optimiser.max-steps", "1"]


def write_comments(path: Path, rows: int = 60, toxic_every: int = 3, insults: int = 6) -> Path:
    """Two labels: each `toxic_every`-th row is toxic, and the first `insults` of those are insults."""
    lines = ["text,toxic,insult"]
    for row in range(rows):
        toxic = row % toxic_every == toxic_every - 1
        word = "idiot" if toxic else "friend"
        lines.append(
            f"remark {row * 7919} by my {word} {row},{int(toxic)},{int(toxic and row < insults * toxic_every)}"
        )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One of each kind of input, good and bad."""
    write_comments(tmp_path / "good.csv")
    write_comments(tmp_path / "no_insults.csv", insults=0)
    write_comments(tmp_path / "clean.csv", toxic_every=10**6, insults=0)
    write_comments(tmp_path / "two_rows.csv", rows=2)
    (tmp_path / "out_of_range.csv").write_text("text,toxic\nhello,7\ngoodbye,-2\n", encoding="utf-8")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no parquet PAR1")
    (tmp_path / "unlabelled.csv").write_text("id,comment\n1,hello\n", encoding="utf-8")
    (tmp_path / "empty_model").mkdir()
    return tmp_path


def fails(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[object, str]:
    """Exit status and what is said on standard error, on one line."""
    with pytest.raises(SystemExit) as ended:
        cli.main(JOB, "", RECIPES, run, list(words))
    return ended.value.code, " ".join(capsys.readouterr().err.replace("│", " ").split())


DATA = ["--data.source", "{}/good.csv", "--data.label-columns", "toxic"]
TWO_LABELS = [*DATA, "insult"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["minilm"], "no data source is given: name one or several with --data.source"),
        (["minilm", "--data.source", "{}/gone.csv"], "no file matches"),
        (["minilm", "--data.source", "{}/good.csv"], "name their columns with --data.label-columns"),
        (["minilm", *DATA, "--data.text-column", "comment"], "has no column 'comment'"),
        (["minilm", *DATA[:3], "toxik"], "has no column 'toxik' (did you mean 'toxic'?)"),
        (["minilm", "--data.source", "{}/broken.parquet", *DATA[2:]], "is broken or cut off; fetch it again"),
        (["maxilm", *DATA], "has no recipe 'maxilm': choose one of cleanspeech"),
        (["minilm", *DATA, "--optimiser.speed", "1"], "nrecognized"),
        (
            ["minilm", *TWO_LABELS, "--task", "regression"],
            "a regressor learns one label, and the data has toxic, insult",
        ),
        (["minilm", *DATA, "--model.name", "no-such-folder"], "model 'no-such-folder' is no folder here"),
        (["minilm", *DATA, "--model.name", "{}/empty_model"], "holds no model: it needs a config.json"),
        (["minilm", *DATA, "--model.name", "tiny/giant"], "there is no tiny/giant: choose one of tiny/bert"),
        (["minilm", *DATA, "--submission", "{}/unlabelled.csv"], "the model has no severe_toxic, obscene"),
        (["cleanspeech"], "is not on the hub. To get it:"),
    ],
)
def test_it_is_said_before_the_run_has_a_directory(
    words: list[str], said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    least = LEAST[2:] if "--model.name" in words else LEAST
    words = [word.format(folder) for word in [*words, *least, "--run.storage", "{}/runs"]]
    status, error = fails(capsys, *words)
    assert (status, said in error) == (2, True), error
    assert not (folder / "runs").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--data.source", "{}/out_of_range.csv", *DATA[2:]],
            "none of the 2 rows is left after cleaning; refused: label_invalid 2",
        ),
        (["--data.source", "{}/two_rows.csv", *DATA[2:]], "would have no rows"),
        (["--data.source", "{}/clean.csv", *DATA[2:]], "no label has both classes in the train part"),
        ([*DATA, "--data.split.ratios", "0.8", "0.2", "0"], "the test part has no labelled row"),
        (
            ["--data.source", "{}/no_insults.csv", *TWO_LABELS[2:], "--loss.name", "weighted_bce"],
            "a weighted loss needs a positive training row of every label, and there is none of insult",
        ),
        ([*DATA, "--stopping.metric", "roc_auc/toxik"], "gives no figure 'roc_auc/toxik'"),
        (
            [*DATA, "--task", "regression"],
            "gives no figure 'roc_auc/macro' to choose the best checkpoint by: set --stopping.metric to one of loss",
        ),
    ],
)
def test_it_is_said_before_training_and_the_corrected_command_may_take_the_name(
    words: list[str], said: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The corrected command is stopped where it would train: it got past the directory of the failed one."""
    trained: list[str] = []

    def training(*_: object) -> str:
        trained.append("once")
        raise RuntimeError("stopped by the test")

    monkeypatch.setattr("rayjobs.train_classifier.training_stage", training)
    common = ["minilm", *LEAST, "--run.storage", str(folder / "runs"), "--run.name", "mine"]
    status, error = fails(capsys, *common, *(word.format(folder) for word in words))
    assert (status, said in error, trained) == (2, True, []), error
    status, error = fails(capsys, *common, *(word.format(folder) for word in DATA))
    assert (status, error, trained) == (1, "error: stopped by the test", ["once"])
    config = json.loads((folder / "runs" / "mine" / "config.json").read_text())
    assert config["data"]["source"] == [str(folder / "good.csv")]


def test_a_label_that_is_sometimes_out_of_range_lands_in_the_rejects(folder: Path) -> None:
    with (folder / "good.csv").open("a", encoding="utf-8") as file:
        file.write("out of range,7,0\n")
    data = prepare(DataSettings(source=(str(folder / "good.csv"),), label_columns=("toxic",)), folder / "out", seed=1)
    assert data.facts["refused"]["label_invalid"] == 1


def test_storage_that_cannot_be_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not a mistake of the command, as a full disk is not: status 1."""
    words = [word.format(folder) for word in DATA]
    status, error = fails(capsys, "minilm", *LEAST, *words, "--run.storage", str(folder / "good.csv"))
    assert status == 1
    assert "a part of that path is a file: name another folder with --run.storage" in error


def test_a_missing_submission_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["demo", *LEAST, "--run.storage", str(folder / "runs"), "--submission", str(folder / "gone.csv")]
    status, error = fails(capsys, *words)
    assert status == 1
    assert "No such file or directory" in error
    assert "gone.csv" in error
    assert not (folder / "runs").exists()


@pytest.fixture
def prepared(folder: Path) -> Path:
    settings = DataSettings(
        source=(str(folder / "good.csv"),), label_columns=("toxic",), cleaning=CleaningSettings(near_duplicates=False)
    )
    return prepare(settings, folder / "prepared", seed=1).folder


@pytest.mark.parametrize(
    ("text", "reason"), [("{", "JSONDecodeError"), ("[]", "TypeError"), ('{"labels": 1}', "labels must be a list")]
)
def test_a_damaged_prepared_folder(
    prepared: Path, folder: Path, capsys: pytest.CaptureFixture[str], text: str, reason: str
) -> None:
    (prepared / "dataset.json").write_text(text)
    words = ["--data.source", str(prepared), "--run.storage", str(folder / "runs")]
    status, error = fails(capsys, "minilm", *LEAST, *words)
    assert status == 2
    assert "dataset.json is damaged" in error
    assert reason in error
    assert "prepare the data again" in error


def test_a_tampered_prepared_folder(prepared: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (prepared / "test.parquet").write_bytes((prepared / "train.parquet").read_bytes())
    words = ["--data.source", str(prepared), "--run.storage", str(folder / "runs")]
    status, error = fails(capsys, "minilm", *LEAST, *words)
    assert status == 2
    assert "test.parquet was changed after it was prepared: prepare the data again" in error


@pytest.mark.parametrize("choice", [["--data.label-columns", "insult"], ["--data.limit", "10"]])
def test_a_choice_that_a_prepared_folder_leaves_no_more(
    prepared: Path, folder: Path, choice: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data.source", str(prepared), "--run.storage", str(folder / "runs"), *choice]
    status, error = fails(capsys, "minilm", *LEAST, *words)
    assert status == 2
    assert "is prepared data with the labels toxic and is taken whole" in error
