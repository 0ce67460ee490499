"""Fixtures that several packages share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

# Read when ray is imported. A thread of Ray Data that outlives a test's `ray.shutdown()` would start another Ray, and
# the end of that one, a minute later, would end the whole process.
os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"

from tests.hub import ROOT, StubHub, stub_hub
from tests.object_store import s3_bucket


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Real corpora: the folder named by `DETOX_DATA`, or `../shared/data` beside the repository."""
    folder = Path(os.environ.get("DETOX_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"needs the real corpora: {folder} is not there (name their folder with DETOX_DATA)")
    return folder


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """`bucket.format("runs")` is a URI on an S3 server."""
    with s3_bucket() as uri:
        yield uri


@pytest.fixture
def serve_hub(tmp_path: Path) -> Iterator[Callable[..., StubHub]]:
    """`serve_hub(models={name: folder}, datasets={name: folder})`: a stub hub until the test ends."""
    with ExitStack() as stack:
        yield lambda **repos: stack.enter_context(stub_hub(tmp_path / "hf_home", **repos))


@pytest.fixture(scope="session", autouse=True)
def keys_of_this_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs of the tests sign with a key of their own, never with the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETOX_KEYS", str(tmp_path_factory.mktemp("keys")))
        yield
