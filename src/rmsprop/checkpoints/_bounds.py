"""Bounded reading: what a file declares is compared with its size before memory is allocated.

Everything that a parser raises becomes one `FileError` in `raise_file_errors`.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from rmsprop._files import check_regular
from rmsprop.errors import FileError, MissingDependency, RMSpropError

__all__ = ["check_size", "check_types", "import_package", "parse_dtype", "raise_file_errors", "shorten"]
__all__ += ["copy_archive", "list_members", "read_bytes", "read_json", "read_member"]

RATIO = 16
"""Unpacked bytes allowed for each byte of a file. A new state of zeros compresses to nothing, but weights do not."""
SLACK = 2**25
TEXT = 2**22
"""Bytes of JSON; as Python objects they take up to 25 times as much."""
ENTRIES = 10**6
"""Objects in one file: parameters, their entries, and everything else."""
_DTYPES = ("float16", "float32", "float64", "complex64", "complex128", "bool")
_INTEGERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
_PACKAGES = {
    "torch": ("torch", "a PyTorch checkpoint"),
    "h5py": ("keras", "a Keras checkpoint"),
    "tensorflow": ("tensorflow", "a TensorFlow checkpoint"),
    "msgpack": ("jax", "a flax checkpoint"),
    "orbax.checkpoint": ("jax", "an Orbax checkpoint"),
}
"""Package: the extra that installs it, and what it reads."""


def import_package(module: str) -> Any:
    """Import a package of `_PACKAGES`; the `MissingDependency` names the extra that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        extra, purpose = _PACKAGES[module]
        raise MissingDependency.of(module.replace(".", "-"), extra=extra, purpose=purpose) from None


@contextlib.contextmanager
def raise_file_errors(path: str | Path, layout: str) -> Iterator[None]:
    """Raise what a parser raises as a `FileError` with the file, the layout and the reason."""
    try:
        with np.errstate(all="ignore"):  # what overflows is rejected by its value, not warned of
            yield
    except RMSpropError:
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or shorten(error)
        reason = "it needs more memory than there is" if isinstance(error, MemoryError) else reason
        raise FileError(f"{path}: not a complete {layout} ({reason})") from error


def shorten(error: BaseException) -> str:
    """Return the first line of an error's text, at most 160 characters."""
    lines = str(error).strip().splitlines()
    first = lines[0] if lines else type(error).__name__
    return first if len(first) <= 160 else f"{first[:157]}..."


def check_size(where: str | Path, declared: int, stored: int) -> None:
    """Raise if `stored` bytes of a file declare far more data than that, or more than this machine's memory."""
    if declared > RATIO * stored + SLACK:
        limit = f"{RATIO} times its size and {SLACK:,}"
        raise FileError(f"{where}: declares {declared:,} bytes in a file of {stored:,}, expected at most {limit}")
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return
    if declared > memory:
        raise FileError(f"{where}: {declared:,} bytes, more than the {memory:,} bytes of memory of this machine")


def check_types(entries: Mapping[Any, Any], expected: Mapping[str, Any], where: str) -> None:
    """Raise a `FileError` for the first entry that has another type than `expected` (name: type or tuple of types).

    Entries that are missing or None are accepted.
    """
    for name, kinds in expected.items():
        value = entries.get(name)
        # In Python a bool is an int; in a file it is not a number.
        if value is None or (isinstance(value, kinds) and (not isinstance(value, bool) or kinds is bool)):
            continue
        wanted = " or ".join(kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))
        raise FileError(f"{where}: {name} is a {type(value).__name__}, expected {wanted}")


def parse_dtype(name: str) -> np.dtype[Any]:
    """Return the dtype of plain numbers with this name; raise `ValueError` for fields, objects and text.

    Example:
        >>> print(parse_dtype("<f4"), parse_dtype("bfloat16"))
        float32 bfloat16
    """
    if name in ("bfloat16", "V2"):  # NumPy without ml_dtypes calls it V2
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    if len(name) > 10 or not name.replace("<", "").replace(">", "").isalnum():
        raise ValueError(f"a dtype {name[:40]!r}")
    dtype = np.dtype(name)
    if dtype.name not in (*_DTYPES, *_INTEGERS):
        raise ValueError(f"a dtype {name!r}")
    return dtype


def read_bytes(path: str | Path, *, limit: int | None = None) -> bytes:
    """Return the bytes of a regular file of at most `limit` bytes; the default limit is this machine's memory."""
    size = check_regular(path)
    check_size(path, size, size)
    if limit is not None and size > limit:
        raise FileError(f"{path}: {size:,} bytes, expected at most {limit:,}")
    return Path(path).read_bytes()


def read_json(data: bytes, where: str | Path) -> Any:
    """Parse JSON of at most `TEXT` bytes."""
    if len(data) > TEXT:
        raise FileError(f"{where}: {len(data):,} bytes of JSON, expected at most {TEXT:,}")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FileError(f"{where}: not JSON ({shorten(error)})") from error


def list_members(path: str | Path) -> list[str]:
    """Return the names in a zip archive, after their sizes and paths were checked; [] if the file is no archive."""
    with open(path, "rb") as file:
        if file.read(2) != b"PK":
            return []
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError) as error:
        raise FileError(f"{path}: a truncated or corrupt zip archive ({error})") from error
    check_size(path, sum(info.file_size for info in infos), os.path.getsize(path))
    names = [info.filename for info in infos]
    for name in names:
        parts = PurePosixPath(name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or name[1:2] == ":":
            raise FileError(f"{path}: the path of member {name!r} leaves the archive; nothing was read")
    return names


def read_member(path: str | Path, name: str) -> bytes:
    """Return the bytes of one member of a zip archive."""
    if name not in list_members(path):
        raise FileError(f"{path}: no {name!r} in the archive")
    with zipfile.ZipFile(path) as archive:
        return archive.read(name)  # at most what the archive's directory declares


def copy_archive(source: Path, target: Path, name: str, data: bytes) -> None:
    """Copy a zip archive with one member replaced."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for item in old.infolist():
            new.writestr(item, data if item.filename == name else old.read(item), compress_type=item.compress_type)
