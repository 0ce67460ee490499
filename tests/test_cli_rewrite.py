"""`detox rewrite`: JSON lines, one a text and in their order; errors on standard error with status 2."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from detox import cli
from detox.rewriter.face import Rewriter
from tests.rewriter.artifacts import CIVIL, RUDE, THANKS, write_rewriter


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_rewriter(tmp_path_factory.mktemp("rewriter") / "run"))


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.rstrip("\n").split("\n")]


def test_texts_from_the_arguments(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["rewrite", RUDE, THANKS, "--model", run, "--lang", "en", "--device", "cpu"]) == 0
    first, second = lines(capsys)
    (expected,) = Rewriter.load(run).rewrite(RUDE, "en")
    assert first == {
        "text": RUDE,
        "rewritten": CIVIL,
        "how": "edited",
        "toxicity_before": pytest.approx(expected.toxicity_before, abs=1e-6),
        "toxicity_after": pytest.approx(expected.toxicity_after, abs=1e-6),
        "similarity": pytest.approx(expected.similarity, abs=1e-6),
    }
    assert (second["rewritten"], second["how"], second["similarity"]) == (THANKS, "already neutral", 1.0)


def test_a_line_out_for_each_line_of_a_file(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Empty lines count, and chunks do not show."""
    monkeypatch.setattr(cli, "CHUNK", 2)
    texts = [RUDE, "", THANKS, RUDE, THANKS]
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    assert cli.main(["rewrite", "--file", str(tmp_path / "texts.txt"), "--model", run, "--lang", "en"]) == 0
    rows = lines(capsys)
    assert [row["text"] for row in rows] == texts
    assert [row["rewritten"] for row in rows] == [CIVIL, "", THANKS, CIVIL, THANKS]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model", "x"], "give either texts (or - for standard input) or --file"),
        (["a", "--model", "nowhere"], "there is no rewriter 'nowhere': name a run of train_rewriter"),
        (["a", "--model", "{bert}"], "is no artifact of ours"),
    ],
)
def test_errors_go_to_standard_error_with_status_2(
    arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert cli.main(["rewrite", *(word.format(bert=tmp_path) for word in arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("detox rewrite: ")
    assert sentence in captured.err


def test_importing_the_library_stays_instant() -> None:
    """`detox.Rewriter` is found when it is asked for; `detox rewrite --help` needs neither torch nor numpy."""
    code = (
        "import sys, detox\nfrom detox.cli import main\n"
        "try:\n    main(['rewrite', '--help'])\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('torch', 'transformers', 'numpy', 'ray') if name in sys.modules])\n"
        "print(detox.__all__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "usage: detox rewrite" in done.stdout
    assert done.stdout.splitlines()[-2:] == ["[]", "['Classifier', 'Rewriter']"]
