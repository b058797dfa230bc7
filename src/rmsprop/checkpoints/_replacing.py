"""What `rmsprop._files.replacing` does for one file, for a folder and for the files of a TensorFlow checkpoint."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from rmsprop._files import name_beside, remove_stale

__all__ = ["replacing_files", "replacing_folder"]


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` for a folder, which takes its place on success and vanishes on any error."""
    path = Path(os.path.realpath(path))
    remove_stale(path.parent)
    temporary, old = name_beside(path, "part"), name_beside(path, "old")
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
def replacing_files(prefix: Path, suffixes: Sequence[str]) -> Iterator[Path]:
    """Yield a prefix in a folder beside; on success its files move, in the order of `suffixes`.

    The last one is that without which the others are nothing, so that a part is never taken for the whole.
    """
    remove_stale(prefix.parent)
    folder = name_beside(prefix, "part")
    folder.mkdir()
    try:
        yield folder / prefix.name
        for suffix in suffixes:
            target = prefix.with_name(prefix.name + suffix)
            os.replace(folder / target.name, os.path.realpath(target))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
