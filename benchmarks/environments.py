"""Virtual environments of peers that cannot share ours, built once from pinned requirements.

An environment is `<folder>/<name>-<digest of the requirements and of Python's version>`, so changed pins build another
one. It is built in its place, since a virtual environment cannot be moved, and counts once its file COMPLETE is there.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path("~/.cache/detox-benchmarks").expanduser()
COMPLETE = "COMPLETE"


def python_of(requirements: Path, folder: Path = FOLDER) -> Path:
    """The interpreter of the environment that holds `requirements`, a file as pip reads it; builds it if need be.

    Raises:
        SystemExit: pip failed; what was begun is taken away by the next call.
    """
    key = requirements.read_bytes() + sys.version.encode()
    root = folder / f"{requirements.stem}-{hashlib.sha256(key).hexdigest()[:12]}"
    python = root / "bin" / "python"
    if (root / COMPLETE).exists():
        return python
    print(f"building {root} from {requirements} (minutes, the first time)", file=sys.stderr, flush=True)
    shutil.rmtree(root, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(root)], requirements)
    _run([str(python), "-m", "pip", "install", "--quiet", "--requirement", str(requirements)], requirements)
    (root / COMPLETE).touch()
    return python


def _run(command: list[str], requirements: Path) -> None:
    done = subprocess.run(command, stdout=sys.stderr)  # standard output is for figures
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: no environment of {requirements.name}")
