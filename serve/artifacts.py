"""What may be served: an artifact of ours whose manifest holds and does not forbid it. It fails closed."""

from __future__ import annotations

import hashlib
from pathlib import Path

from detox.governance.manifest import MANIFEST, verify_manifest
from detox.models.loading import local_folder


def servable(name: str) -> tuple[Path, str]:
    """The artifact's folder and its version: twelve hexadecimal digits of its manifest.

    Args:
        name: a run directory or its artifact, as a path or a URI.

    Raises:
        ValueError: there is none, its manifest is missing or does not hold, or it is for research only.
    """
    folder = local_folder(name)
    if folder is None:
        raise ValueError(f"there is no artifact {name!r}: name a run directory")
    manifest = verify_manifest(folder)
    if manifest["classification"] == "research-only":
        raise ValueError(f"{name} is classified research-only, and such an artifact is not served: train another")
    return folder, hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()[:12]


class ReplacedError(ValueError):
    """An artifact that is read again is another one by now."""


def check_version(what: str, served: str, now: str) -> None:
    """Raises:
    ReplacedError: the version that was served is not that which is there now.
    """
    if now != served:
        raise ReplacedError(
            f"{what} was {served} when this replica started and is {now} now: start the service again, or deploy each "
            "under a path of its own"
        )


def run_name(name: str) -> str:
    """What the model is called: the run's folder."""
    *above, last = name.rstrip("/").split("/")
    return above[-1] if last == "artifact" and above else last
