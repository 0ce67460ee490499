"""`detox classify|explain`: JSON lines, errors on standard error with status 2, large files, closed pipes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from detox import cli


@pytest.fixture
def lexicon(tmp_path: Path) -> str:
    (tmp_path / "terms.txt").write_text("idiot\n")
    return f"lexicon:{tmp_path / 'terms.txt'}"


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.rstrip("\n").split("\n")]


def test_texts_from_the_arguments(lexicon: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["classify", "you Idiot", "thänk you", "--model", lexicon]) == 0
    assert lines(capsys) == [
        {"text": "you Idiot", "probabilities": {"toxic": 1.0}, "flags": ["toxic"]},
        {"text": "thänk you", "probabilities": {"toxic": 0.0}, "flags": []},
    ]


def test_a_line_out_for_each_line_of_a_file(
    lexicon: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Empty lines count, CRLF ends a line, other separators (U+2028) do not, and chunks do not show."""
    monkeypatch.setattr(cli, "CHUNK", 2)
    file = tmp_path / "comments.txt"
    file.write_bytes("idiot\r\n\nfine\u2028still fine\nidiot".encode())
    assert cli.main(["classify", "--file", str(file), "--model", lexicon]) == 0
    rows = lines(capsys)
    assert [row["text"] for row in rows] == ["idiot", "", "fine\u2028still fine", "idiot"]
    assert [bool(row["flags"]) for row in rows] == [True, False, False, True]


def test_a_file_is_read_as_it_is_needed(tmp_path: Path) -> None:
    """After one chunk no more than a buffer of the file has been read."""
    file = tmp_path / "large.txt"
    file.write_text("idiot\n" * 500_000)
    stream = file.open(encoding="utf-8")
    texts = cli._lines(stream, "large.txt")
    assert next(texts) == "idiot"
    assert stream.buffer.tell() < 100_000


def test_explain_with_a_heat_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    command = ["explain", "you idiot", "--model", "tiny/bert", "--method", "attention", "--html", str(page)]
    assert cli.main(command) == 0
    (row,) = lines(capsys)
    assert [span["text"] for span in row["spans"]] == ["you", "idiot"]
    assert "<mark" in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["classify", "--model", "x"], "give either texts (or - for standard input) or --file"),
        (["classify", "a", "--file", "b", "--model", "x"], "give either texts"),
        (["classify", "--file", "absent.txt", "--model", "x"], "absent.txt"),
        (["classify", "a", "--model", "nowhere"], "'nowhere' is no folder here"),
        (["explain", "a", "--model", "tiny/bert", "--label", "rude"], "no label 'rude'"),
    ],
)
def test_errors_go_to_standard_error_with_status_2(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert sentence in captured.err
    assert captured.err.startswith(f"detox {arguments[0]}: ")


def test_a_file_in_another_encoding(lexicon: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    assert cli.main(["classify", "--file", str(tmp_path / "latin.txt"), "--model", lexicon]) == 2
    assert "is not UTF-8" in capsys.readouterr().err


def test_a_closed_pipe_is_quiet(lexicon: str, tmp_path: Path) -> None:
    (tmp_path / "many.txt").write_text("idiot\n" * 20_000)
    command = [sys.executable, "-m", "detox", "classify", "--file", str(tmp_path / "many.txt"), "--model", lexicon]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["flags"] == ["toxic"]
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_standard_input(lexicon: str) -> None:
    command = [sys.executable, "-m", "detox", "classify", "-", "--model", lexicon]
    done = subprocess.run(command, input="idiot\ntschüss", capture_output=True, encoding="utf-8", check=True)
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == ["idiot", "tschüss"]


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom detox.cli import main\n"
        "try:\n    main(['classify', '--help'])\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('torch', 'transformers', 'numpy', 'ray') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "usage: detox classify" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
