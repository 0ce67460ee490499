"""What README promises: every command it shows is one that the project takes, and its tables leave nothing out."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import subprocess
from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml

from detox.cli import _parser
from rayjobs.__main__ import jobs
from tests.hub import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    """The lines of README's console blocks, continued ones joined, comments dropped."""
    blocks = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [" ".join(shlex.split(line, comments=True, posix=False)) for line in lines if line.strip()]


@pytest.mark.parametrize("command", commands())
def test_every_command_is_one_that_the_project_takes(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = shlex.split(command)
    if "--" in words:  # ray job submit … -- entry point
        check_submission(words[: words.index("--")])
        words = words[words.index("--") + 1 :]
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif words[0] == "ray":
        assert words[1] in {"up", "get-auth-token"}
    elif words[0] == "detox":
        _parser().parse_args(words[1:])
    elif words[2] != "rayjobs":
        assert words[:2] == ["python", "-m"]
        dry_run(words[2], words[3:], monkeypatch)
        assert capsys.readouterr().out


def check_submission(words: list[str]) -> None:
    words = [word for word in words if "=" not in word]
    assert words[:3] == ["ray", "job", "submit"]
    environment = yaml.safe_load(words[words.index("--runtime-env-json") + 1])
    assert (ROOT / environment["pip"]).is_file()


def dry_run(module: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", [module, *words, "--dry-run"])
    with pytest.raises(SystemExit, match="^0$") if "--help" in words else nullcontext():
        importlib.import_module(module).main()


def test_recipes_of_training_are_all_listed() -> None:
    cells = re.findall(r"^\| (`[^|]+`) \|", README, re.MULTILINE)
    listed = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    training = ("train_classifier", "train_rewriter", "finetune", "align_policy")
    assert sorted(listed) == sorted(recipe for job in training for recipe in jobs()[job])


@pytest.mark.parametrize(
    ("words", "wanted"),
    [([], True), (["MODEL=runs/mine", "REWRITER=runs/polite", "PORT=9"], False)],
)
def test_serving_trains_the_demo_where_no_model_is_named(tmp_path: Path, words: list[str], wanted: bool) -> None:
    """As `make` would do it in a folder without runs."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    alone = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # not a part of another
    command = ["make", "-n", "serve", *words]
    done = subprocess.run(command, cwd=tmp_path, env=alone, capture_output=True, text=True, check=True)
    assert ("-m rayjobs.train_classifier demo" in done.stdout) == wanted
    if words:
        serving = done.stdout.splitlines()[-1]
        assert "--classifier.model runs/mine" in done.stdout
        assert serving.split()[-2:] == ["--port", "9"]
        assert "--rewriter.model runs/polite" in done.stdout


def test_folders_of_the_layout_exist() -> None:
    layout = README[README.index("## Layout") :]
    for folder in re.findall(r"^(\w+)/ ", layout, re.MULTILINE):
        assert (ROOT / folder).is_dir(), folder


def test_cluster_file_is_one_that_ray_up_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own schema, and the files that it sends along."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))
    complete = prepare_config(config)
    validate_config(complete)
    with pytest.raises(Exception, match="max_workerz"):
        validate_config({**complete, "max_workerz": 3})
    sent = [path for path in config["file_mounts"].values() if not path.startswith("~")]
    assert all((ROOT / path).is_file() for path in sent)
    image = config["docker"]["image"]
    pinned = re.search(r"^ray==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert f":{pinned[1]}-" in image


def test_every_benchmark_is_named_by_make_bench_or_needs_more() -> None:
    made = re.search(r"^BENCHMARKS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert made is not None
    files = (ROOT / "benchmarks").glob("*.py")
    modules = {path.stem for path in files if "__main__" in path.read_text(encoding="utf-8")}
    # three take a trained run, the other most of an hour
    assert modules - set(made[1].split()) == {"explanations", "ablation", "engines", "perspective"}
    assert all(Path(ROOT / "benchmarks" / f"{name}.py").is_file() for name in made[1].split())
