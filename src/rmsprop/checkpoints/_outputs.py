"""What `rmsprop._files.write_atomically` does for one file, for a folder and for a TensorFlow checkpoint's files."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from rmsprop._files import get_path_beside, remove_stale

__all__ = ["write_files_atomically", "write_folder_atomically"]


@contextlib.contextmanager
def write_folder_atomically(path: Path) -> Iterator[Path]:
    """Yield a path for a new folder, which takes the place of `path` on success and is removed on any error."""
    path = Path(os.path.realpath(path))
    remove_stale(path.parent)
    temporary, old = get_path_beside(path, "part"), get_path_beside(path, "old")
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
        shutil.rmtree(temporary, ignore_errors=True)
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
