"""A peer's environment is built from its requirements once, anew where they change, and not used half built."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from benchmarks import environments


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that are run, none of which does anything; an installation of `broken.txt` fails."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        commands.append(command)
        if "venv" in command:
            Path(command[-1]).mkdir(parents=True)
        return subprocess.CompletedProcess(command, int(command[-1].endswith("broken.txt")))

    monkeypatch.setattr(environments.subprocess, "run", run)
    return commands


def requirements(folder: Path, text: str, name: str = "peer.txt") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_it_is_built_once_and_anew_for_other_pins(tmp_path: Path, pip: list[list[str]]) -> None:
    one = environments.python_of(requirements(tmp_path, "trl==1\n"), tmp_path)
    assert [command[1:3] for command in pip] == [["-m", "venv"], ["-m", "pip"]]
    assert pip[1][0] == str(one)
    assert environments.python_of(requirements(tmp_path, "trl==1\n"), tmp_path) == one
    assert len(pip) == 2
    other = environments.python_of(requirements(tmp_path, "trl==2\n"), tmp_path)
    assert other != one
    assert len(pip) == 4


def test_one_that_failed_is_built_again(tmp_path: Path, pip: list[list[str]]) -> None:
    file = requirements(tmp_path, "trl==1\n", "broken.txt")
    for _ in range(2):
        with pytest.raises(SystemExit, match=r"no environment of broken\.txt"):
            environments.python_of(file, tmp_path)
    assert [command[2] for command in pip] == ["venv", "pip", "venv", "pip"]


@pytest.mark.slow
def test_a_real_one_has_what_was_asked_for(tmp_path: Path) -> None:
    """Of a wheel on this disk, so that nothing is downloaded."""
    wheel = tmp_path / "peer_of_ours-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("peer_of_ours.py", "ANSWER = 42\n")
        archive.writestr("peer_of_ours-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: peer_of_ours\nVersion: 1\n")
        archive.writestr(
            "peer_of_ours-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("peer_of_ours-1.dist-info/RECORD", "")
    python = environments.python_of(requirements(tmp_path, f"{wheel}\n"), tmp_path / "cache")
    said = subprocess.run([python, "-c", "import peer_of_ours as p; print(p.ANSWER)"], capture_output=True, text=True)
    assert said.stdout == "42\n"
