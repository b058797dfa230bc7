"""Files: written atomically, one writer for a folder of results, read only where they are regular files."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rmsprop.errors import FileError

__all__ = [
    "check_regular",
    "get_path_beside",
    "lock_folder",
    "remove_stale",
    "write_atomically",
    "write_files_atomically",
    "write_folder_atomically",
]

STALE = 86400.0
"""Seconds after which a temporary file is taken for that of a killed save."""
_PART = re.compile(r"\..+\.[0-9a-f]{12}\.part", re.DOTALL)


def check_regular(path: str | Path) -> int:
    """Return the size of a regular file in bytes; raise `FileError` for anything else, as a device may have no end."""
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "no such file" if missing else getattr(error, "strerror", None) or str(error)
        raise FileError(f"{path}: {reason}") from error
    if not stat.S_ISREG(found.st_mode):
        raise FileError(f"{path}: not a regular file; nothing else is read")
    return found.st_size


def get_path_beside(path: Path, kind: str) -> Path:
    """Return a new path beside `path`. `remove_stale` finds those of the kind "part" that a killed save left."""
    return path.with_name(f".{path.name}.{os.urandom(6).hex()}.{kind}")


@contextlib.contextmanager
def lock_folder(path: Path, *, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock of a folder, which one process or thread at a time can have; the file `.lock` in it stays.

    The system releases the lock when the process ends, however it ends. Where a file system has no locks, the file
    itself is the lock, and one whose process on this machine has ended is ignored.

    Args:
        path: An existing folder.
        wait: Seconds to wait for another process.

    Raises:
        FileError: Another process has the lock, or the file system cannot lock a file.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path / ".lock")
    try:
        lock.acquire(timeout=wait)
    except Timeout as error:
        raise FileError(f"{path}: another process writes there; wait until it ends, or choose another --out") from error
    except OSError as error:
        reason = error.strerror or error
        raise FileError(f"{path}: its file system cannot lock a file ({reason}): choose an --out on a disk") from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def write_atomically(path: str | Path) -> Iterator[Path]:
    """Yield the path of an empty file beside `path`, which replaces `path` on success and is removed on any error.

    An existing `path` survives a full disk, an exception and a kill. A link is followed, the mode of an existing file
    is kept, and a device or FIFO is written to. Temporary files in this folder older than a day are removed.

    Example:
        >>> import tempfile, pathlib
        >>> target = pathlib.Path(tempfile.mkdtemp()) / "report.txt"
        >>> with write_atomically(target) as temporary:
        ...     _ = temporary.write_text("done")
        >>> target.read_text()
        'done'
    """
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        with tempfile.TemporaryDirectory() as folder:
            temporary = Path(folder) / path.name
            temporary.touch()
            yield temporary
            with open(temporary, "rb") as file, open(path, "wb") as device:
                shutil.copyfileobj(file, device)
        return
    path = Path(os.path.realpath(path))
    remove_stale(path.parent)
    temporary = get_path_beside(path, "part")
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    mode = stat.S_IMODE((path if path.exists() else temporary).stat().st_mode)
    try:
        yield temporary
        temporary.chmod(mode)  # a writer that replaced the file may have made it private, as safetensors does
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_stale(folder: Path) -> None:
    """Remove the temporary files in `folder` of saves that were killed more than a day ago."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not _PART.fullmatch(entry.name) or time.time() - entry.stat(follow_symlinks=False).st_mtime < STALE:
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry.path)


@contextlib.contextmanager
def write_folder_atomically(path: Path) -> Iterator[Path]:
    """Yield a path for a new folder, which takes the place of `path` on success and is removed on any error."""
    path = Path(os.path.realpath(path))
    remove_stale(path.parent)
    part, old = get_path_beside(path, "part"), get_path_beside(path, "old")
    part.mkdir()
    temporary = part / path.name  # inside, because Orbax leaves a folder of its own beside it when it fails
    try:
        yield temporary
        if path.exists():
            os.rename(path, old)
        os.rename(temporary, path)
    except BaseException:
        if old.exists() and not path.exists():
            os.rename(old, path)
        raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if path.exists() and old.is_dir():
            shutil.rmtree(old)
        elif path.exists():
            old.unlink(missing_ok=True)


@contextlib.contextmanager
def write_files_atomically(prefix: Path, suffixes: Sequence[str]) -> Iterator[Path]:
    """Yield a prefix in a temporary folder; on success its files move to `prefix`, in the order of `suffixes`.

    The last one is the file without which the others mean nothing, so that a part is never read as a checkpoint.
    """
    remove_stale(prefix.parent)
    folder = get_path_beside(prefix, "part")
    folder.mkdir()
    try:
        yield folder / prefix.name
        for suffix in suffixes:
            target = prefix.with_name(prefix.name + suffix)
            os.replace(folder / target.name, os.path.realpath(target))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
