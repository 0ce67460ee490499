"""DeepSpeed ZeRO: its settings, and a trap of its first start on a machine.

DeepSpeed has torch compile a helper of its own, once a machine. Meanwhile torch keeps a lock file, for which every
other process waits, without end and without a word, also where the one that compiled was killed.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

BUILD_SECONDS = 300.0
"""A build in which nothing has been written for so long is that of a process that died."""


def deepspeed_config(strategy: str) -> dict[str, Any]:
    """DeepSpeed ZeRO-2 or ZeRO-3; `auto` values are filled in by the Trainer. Runs on CPU workers too."""
    stage = {"zero2": 2, "zero3": 3}[strategy]
    return {
        "zero_optimization": {"stage": stage, "stage3_gather_16bit_weights_on_model_save": stage == 3},
        "optimizer": {
            "type": "AdamW",
            "params": {"lr": "auto", "betas": "auto", "eps": "auto", "weight_decay": "auto", "torch_adam": True},
        },
        "bf16": {"enabled": "auto"},
        "fp16": {"enabled": "auto"},
        "gradient_clipping": "auto",
        "gradient_accumulation_steps": "auto",
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
    }


def await_builds(builds: Path | None = None, dead_after: float = BUILD_SECONDS, every: float = 1.0) -> None:
    """Wait for builds that are under way, and remove the lock of one whose process died.

    Args:
        builds: where torch compiles; None: its own folder, or `TORCH_EXTENSIONS_DIR`.
        dead_after: seconds without a change.
        every: seconds between two looks.
    """
    from torch.utils.cpp_extension import get_default_build_root

    folder = builds or Path(os.environ.get("TORCH_EXTENSIONS_DIR") or get_default_build_root())
    while locks := list(folder.glob("**/lock")):
        for lock in locks:
            try:
                changed = max(path.stat().st_mtime for path in (lock, *lock.parent.iterdir()))
                if time.time() - changed > dead_after:
                    lock.unlink()
                    print(f"removed {lock}: the process that compiled for DeepSpeed died", flush=True)
            except FileNotFoundError:  # the build ended, or another rank was faster
                continue
        time.sleep(every)
