"""A folder somewhere: a local path, `s3://…`, `gs://…`, or any URI that pyarrow or fsspec knows.

Everything that a run writes goes through `Storage`, so that a run directory on an object store and one on a laptop
are the same code. Text files are small and written whole; on a local disk the write is atomic (a temporary file,
then a rename), as it is by nature on an object store.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
from pyarrow import fs as pafs


class Storage:
    """One folder of a file system; need not exist yet.

    Args:
        uri: a path (`~` is expanded, a relative one is taken from the working directory) or a URI.

    Raises:
        ValueError: a URI whose scheme neither pyarrow nor fsspec knows.
    """

    def __init__(self, uri: str | os.PathLike[str]) -> None:
        self.filesystem, self.path = _resolve(os.fspath(uri))
        self.uri = os.fspath(uri) if "://" in os.fspath(uri) else self.path

    @property
    def is_local(self) -> bool:
        return isinstance(self.filesystem, pafs.LocalFileSystem)

    @property
    def local_path(self) -> Path:
        """The folder as a `Path`.

        Raises:
            ValueError: the storage is remote.
        """
        if not self.is_local:
            raise ValueError(f"{self.uri} is remote and has no local path: download it first")
        return Path(self.path)

    def child(self, *parts: str) -> Storage:
        """A folder below this one."""
        below = Storage.__new__(Storage)
        below.filesystem = self.filesystem
        below.path = "/".join([self.path.rstrip("/"), *parts])
        head, mark, query = self.uri.partition("?")
        below.uri = "/".join([head.rstrip("/"), *parts]) + mark + query
        return below

    def exists(self, name: str = "") -> bool:
        return self._info(name).type != pafs.FileType.NotFound

    def names(self) -> list[str]:
        """Names directly below, sorted; an absent folder has none."""
        selector = pafs.FileSelector(self.path, allow_not_found=True)
        return sorted(info.base_name for info in self.filesystem.get_file_info(selector))

    def read_text(self, name: str) -> str:
        with self.filesystem.open_input_stream(self._at(name), compression=None) as stream:
            return stream.read().decode("utf-8")

    def write_text(self, name: str, text: str) -> None:
        """Write a whole small file.

        Raises:
            OSError: disk full, no permission; the sentence says which folder and what to do.
        """
        data = text.encode("utf-8")
        with explained(self.uri):
            self.make()
            if self.is_local:
                target = self.local_path / name
                beside = target.with_name(f".{target.name}.{os.getpid()}-{threading.get_ident()}.part")
                beside.write_bytes(data)
                os.replace(beside, target)
            else:
                with self.filesystem.open_output_stream(self._at(name), compression=None) as stream:
                    stream.write(data)

    def make(self) -> None:
        self.filesystem.create_dir(self.path, recursive=True)

    def delete(self, name: str = "") -> None:
        """Delete a file or a folder below, or the folder itself; absent is fine."""
        info = self._info(name)
        if info.type == pafs.FileType.Directory:
            self.filesystem.delete_dir(info.path)
        elif info.type == pafs.FileType.File:
            self.filesystem.delete_file(info.path)

    def upload(self, folder: Path, name: str) -> None:
        """Copy a local folder to `name`. On a local disk it appears whole or not at all."""
        with explained(self.uri):
            self.make()
            if self.is_local:
                target = self.local_path / name
                beside = target.with_name(f".{target.name}.{os.getpid()}.part")
                shutil.rmtree(beside, ignore_errors=True)
                shutil.copytree(folder, beside)
                if target.exists():
                    shutil.rmtree(target)
                os.replace(beside, target)
            else:
                self.delete(name)
                pafs.copy_files(str(folder), self._at(name), pafs.LocalFileSystem(), self.filesystem)

    def add_files(self, folder: Path) -> None:
        """Copy what lies below a local folder to here, beside what is there already; symbolic links are left out."""
        with explained(self.uri):
            for path in sorted(folder.rglob("*")):
                if path.is_file() and not path.is_symlink():
                    target = self.child(*path.relative_to(folder).parts)
                    target.filesystem.create_dir(target.path.rsplit("/", 1)[0], recursive=True)
                    pafs.copy_files(str(path), target.path, pafs.LocalFileSystem(), target.filesystem)

    def localise(self, scratch: Path) -> Path:
        """This folder on the local disk: itself where it is local, else a copy below `scratch`."""
        if self.is_local:
            return self.local_path
        target = scratch / self.path.rstrip("/").rsplit("/", 1)[-1]
        target.mkdir(parents=True, exist_ok=True)  # copy_files makes only the folders within
        pafs.copy_files(self.path, str(target), self.filesystem, pafs.LocalFileSystem())
        return target

    def check_writable(self) -> None:
        """Write and delete a probe, so that a run stops before any work.

        Raises:
            OSError: the folder cannot be written; names it and the reason.
        """
        probe = f".probe-{os.getpid()}"
        self.write_text(probe, "probe")
        self.delete(probe)

    def _at(self, name: str) -> str:
        return f"{self.path.rstrip('/')}/{name}" if name else self.path

    def _info(self, name: str) -> pafs.FileInfo:
        return self.filesystem.get_file_info(self._at(name))


def _resolve(uri: str) -> tuple[pafs.FileSystem, str]:
    if "://" not in uri:
        return pafs.LocalFileSystem(), str(Path(uri).expanduser().absolute())
    scheme, _, _ = uri.partition("://")
    try:
        return pafs.FileSystem.from_uri(uri)
    except (ValueError, NotImplementedError):
        pass  # not one of pyarrow's own schemes: fsspec may know it
    try:
        filesystem = fsspec.filesystem(scheme)
    except (ValueError, ImportError) as error:
        raise ValueError(f"storage {uri!r}: scheme {scheme!r} is not supported here ({error})") from None
    return pafs.PyFileSystem(pafs.FSSpecHandler(filesystem)), filesystem._strip_protocol(uri)


def create_alone(path: Path, data: bytes, mode: int = 0o666) -> bool:
    """Make a local file that only one of several processes can make; False where it exists.

    It appears whole, by a hard link. On a file system without links (gcsfuse, SMB, exFAT) it appears empty, and holds
    `data` a moment later.
    """
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        _write_new(beside, data, mode)
        try:
            os.link(beside, path)
        except FileExistsError:
            raise
        except OSError:
            _write_new(path, data, mode)
    except FileExistsError:
        return False
    finally:
        beside.unlink(missing_ok=True)
    return True


def _write_new(path: Path, data: bytes, mode: int) -> None:
    with open(path, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        file.write(data)


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Errors of writing below `uri`, as a sentence that says which folder and what to do."""
    try:
        yield
    except OSError as error:
        remedy = {
            errno.ENOSPC: "the disk is full: free some space there, or name another with --run.storage",
            errno.EACCES: "no permission to write there: name another folder with --run.storage",
            errno.EROFS: "the file system is read-only: name another folder with --run.storage",
            errno.ENOTDIR: "a part of that path is a file: name another folder with --run.storage",
            errno.EEXIST: "that path is a file: name another folder with --run.storage",
        }.get(error.errno or 0, str(error))
        raise OSError(error.errno, f"cannot write to {uri}: {remedy}") from error
