"""What a run ran on: versions, git commit, hardware. Written beside every result as `environment.json`."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "toxicity-lab", "ray", "torch", "transformers", "datasets", "accelerate", "peft", "trl", "deepspeed",
    "bitsandbytes", "numpy", "pyarrow", "scikit-learn", "ftfy", "lingua-language-detector",
)  # fmt: skip


def environment() -> dict[str, Any]:
    """Versions, commit and hardware as plain JSON values."""
    return {
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "git": git_state(),
        **hardware(),
        "argv": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def hardware() -> dict[str, Any]:
    """What this process sees of its machine, as plain JSON values."""
    import torch

    return {
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "cpu_bf16": torch.cpu._is_avx512_bf16_supported() if hasattr(torch.cpu, "_is_avx512_bf16_supported") else None,
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def with_worker(driver: Mapping[str, Any]) -> dict[str, Any]:
    """The driver's environment, with this process's hardware as `worker` where it differs: on a cluster the driver has
    another machine than the workers."""
    here = hardware()
    known = {key: value for key, value in driver.items() if key != "worker"}
    return known if here.items() <= known.items() else known | {"worker": here}


def git_state() -> dict[str, Any]:
    """Commit of the source tree and whether it had changes; empty outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return {}
    commit = _git(root, "rev-parse", "HEAD")
    return {"commit": commit, "dirty": bool(_git(root, "status", "--porcelain"))} if commit else {}


def _git(root: Path, *words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""  # git absent or hanging: the run matters more than its provenance note
    return done.stdout.strip() if done.returncode == 0 else ""


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
