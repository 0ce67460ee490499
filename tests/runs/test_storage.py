"""Storage: the same calls on a local path and on a URI; what cannot be written says so before any work."""

import os
import threading

import fsspec
import pytest

from detox.runs.storage import Storage


@pytest.fixture(params=["local", "file-uri", "memory", "s3"])
def storage(request, tmp_path) -> Storage:
    if request.param == "s3":
        return Storage(request.getfixturevalue("bucket").format(tmp_path.name))
    if request.param == "memory":
        fsspec.filesystem("memory").store.clear()
        return Storage("memory://bucket/runs")
    return Storage(tmp_path / "runs" if request.param == "local" else f"file://{tmp_path}/runs")


def test_text_round_trip(storage: Storage) -> None:
    storage.child("a", "b").write_text("c.txt", "naïve ☃")
    assert storage.child("a").child("b").read_text("c.txt") == "naïve ☃"
    assert storage.child("a").names() == ["b"]
    assert storage.child("a", "b").exists("c.txt")


def test_upload_and_localise(storage: Storage, tmp_path) -> None:
    source = tmp_path / "made"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "x.bin").write_bytes(b"\0\1")
    storage.upload(source / "deep", "flat")
    assert (storage.child("flat").localise(tmp_path / "scratch") / "x.bin").is_file()
    storage.upload(source, "artifact")
    storage.upload(source, "artifact")  # a second time replaces
    local = storage.child("artifact").localise(tmp_path / "scratch")
    assert (local / "deep" / "x.bin").read_bytes() == b"\0\1"


def test_added_files_stand_beside_those_that_are_there(storage: Storage, tmp_path) -> None:
    (tmp_path / "made" / "deep").mkdir(parents=True)
    (tmp_path / "made" / "deep" / "new.txt").write_text("new")
    (tmp_path / "made" / "link").symlink_to("deep")
    added = storage.child("added")
    added.child("deep").write_text("old.txt", "old")
    added.add_files(tmp_path / "made")
    assert added.names() == ["deep"]
    assert added.child("deep").names() == ["new.txt", "old.txt"]
    assert added.child("deep").read_text("new.txt") == "new"


def test_delete_and_absent(storage: Storage) -> None:
    storage.write_text("x", "1")
    storage.delete("x")
    storage.delete("x")
    assert not storage.exists("x")
    assert storage.child("nowhere").names() == []


def test_remote_has_no_local_path() -> None:
    with pytest.raises(ValueError, match="remote"):
        _ = Storage("memory://bucket").local_path


def test_unknown_scheme_is_refused() -> None:
    with pytest.raises(ValueError, match="scheme 'gopher' is not supported"):
        Storage("gopher://x/y")


def test_a_file_in_the_way_is_explained(tmp_path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(OSError, match=r"cannot write to .*name another folder with --run.storage"):
        Storage(tmp_path / "runs").child("x").check_writable()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's /dev/full, which is always out of space")
def test_a_full_disk_is_explained(tmp_path) -> None:
    """A symbolic link to /dev/full answers every write with ENOSPC, as a full disk does."""
    storage = Storage(tmp_path)
    (tmp_path / f".x.{os.getpid()}-{threading.get_ident()}.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match="the disk is full"):
        storage.write_text("x", "text")
