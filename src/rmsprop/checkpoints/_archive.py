"""Bounded reading: files, zip archives (.keras, stable-baselines3), JSON, and nested trees of dicts and lists."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from rmsprop._files import check_regular
from rmsprop.errors import FileError, InputError, RMSpropError

__all__ = [
    "check_entries",
    "check_size",
    "choose",
    "copied",
    "found",
    "member",
    "members",
    "parse_dtype",
    "places",
    "raise_file_errors",
    "read_bytes",
    "read_json",
    "short",
]

RATIO = 16
"""Bytes unpacked for each byte of a file: a fresh state of zeros compresses to nothing, but weights stand beside it."""
SLACK = 2**25
TEXT = 2**22
"""Bytes of JSON; Python objects take up to 25 times as much."""
ENTRIES = 10**6
"""Objects in one file: parameters, their entries, and whatever else stands there."""
_DTYPES = ("float16", "float32", "float64", "complex64", "complex128", "bool")
_INTEGERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))


def check_size(where: str | Path, declared: int, stored: int) -> None:
    """Refuse data that unpack to far more than the file they come from, or to more than this machine has room for.

    Args:
        where: For messages.
        declared: What the file says that it holds, in bytes.
        stored: Its size, in bytes.

    Raises:
        FileError: By both figures.
    """
    if declared > RATIO * stored + SLACK:
        raise FileError(
            f"{where}: declares {declared:,} bytes in a file of {stored:,}, expected at most {RATIO} times its size "
            f"and {SLACK:,}"
        )
    if declared > (memory := _memory()):
        raise FileError(f"{where}: {declared:,} bytes, more than the {memory:,} bytes of memory of this machine")


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return sys.maxsize


def read_bytes(path: str | Path, *, limit: int | None = None) -> bytes:
    """Return the bytes of a regular file.

    Raises:
        FileError: A folder, device or FIFO, or more bytes than `limit`, by default than the memory of this machine.
    """
    size = check_regular(path)
    check_size(path, size, size)
    if limit is not None and size > limit:
        raise FileError(f"{path}: {size:,} bytes, expected at most {limit:,}")
    return Path(path).read_bytes()


def read_json(data: bytes, where: str | Path) -> Any:
    """Return what JSON text says.

    Raises:
        FileError: More than `TEXT` bytes, nested too deeply, or no JSON.
    """
    if len(data) > TEXT:
        raise FileError(f"{where}: {len(data):,} bytes of JSON, expected at most {TEXT:,}")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FileError(f"{where}: not JSON ({short(error)})") from error


def members(path: str | Path) -> list[str]:
    """Return the names in a zip file; [] if it is none.

    Raises:
        FileError: Truncated, a member whose path leaves the archive, or members that unpack to far more than the file.
    """
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
            raise FileError(f"{path}: the member {name!r} has a path that leaves the archive; nothing was read")
    return names


def member(path: str | Path, name: str) -> bytes:
    """Return one member's bytes, checked against the archive's own checksum.

    Raises:
        FileError: The archive is corrupt, or has no such member.
    """
    if name not in members(path):
        raise FileError(f"{path}: no {name!r} in the archive")
    with zipfile.ZipFile(path) as archive:
        return archive.read(name)  # never more than its directory declares


def copied(source: str | Path, target: str | Path, name: str, data: bytes) -> None:
    """Write a copy of a zip archive with one member replaced; the others keep their bytes."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for item in old.infolist():
            new.writestr(item, data if item.filename == name else old.read(item), compress_type=item.compress_type)


def places(tree: Any, wanted: Callable[[Mapping[str, Any]], bool]) -> list[str]:
    """Return the paths ("a/0/b") of the dicts in a nested tree that `wanted` accepts; their insides are not searched.

    What appears in several places is looked at once, so that a tree that holds itself has an end.
    """
    found: list[str] = []
    seen: set[int] = set()
    todo = [("", tree)]
    while todo:
        path, node = todo.pop()
        if not isinstance(node, (Mapping, list, tuple)) or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, Mapping) and wanted(node):
            found.append(path)
            continue
        children = list(node.items() if isinstance(node, Mapping) else enumerate(node))
        todo += [(f"{path}/{key}" if path else str(key), child) for key, child in reversed(children)]
    return found


def choose(spots: list[str], at: str | None, path: Path) -> str:
    """Return which of the places in a file is meant.

    Raises:
        InputError: There are several and `at` does not say which, or it names none of them.
    """
    if at is not None and at not in spots:
        raise InputError(f"at: no optimizer state at {at!r} in {path}, expected one of {spots}")
    if at is None and len(spots) > 1:
        raise InputError(f"{path}: several optimizer states; choose one with --at: {', '.join(spots)}")
    return spots[0] if at is None else at


def found(tree: Any, path: str) -> Any:
    """Return what stands at a path of `places`."""
    for part in path.split("/") if path else []:
        if isinstance(tree, Mapping):
            keys = {str(key): key for key in tree}
            if part not in keys:
                raise KeyError(part)
            tree = tree[keys[part]]
        else:
            tree = tree[int(part)]
    return tree


def short(error: BaseException) -> str:
    """Return an error's first line, shortened: other libraries write paragraphs."""
    text = str(error).strip().splitlines()
    first = text[0] if text else type(error).__name__
    return first if len(first) <= 160 else f"{first[:157]}..."


@contextlib.contextmanager
def raise_file_errors(path: str | Path, layout: str) -> Iterator[None]:
    """Raise whatever a parser raises within as a `FileError` with the file, the layout and the parser's reason."""
    try:
        yield
    except RMSpropError:
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or short(error)
        reason = "it takes more memory than there is" if isinstance(error, MemoryError) else reason
        raise FileError(f"{path}: not a whole {layout} ({reason})") from error


def check_entries(entries: Mapping[Any, Any], expected: Mapping[str, Any], where: str) -> None:
    """Refuse a mapping whose entries have other types than expected; those that are missing or None are not looked at.

    Args:
        entries: What a file holds.
        expected: For each name a type, or a tuple of types.
        where: For messages.

    Raises:
        FileError: The first that differs, by name.
    """
    for name, kinds in expected.items():
        value = entries.get(name)
        # A bool is an int to Python, and no number in a file.
        if value is None or (isinstance(value, kinds) and (not isinstance(value, bool) or kinds is bool)):
            continue
        wanted = " or ".join(kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))
        raise FileError(f"{where}: {name} is a {type(value).__name__}, expected {wanted}")


def parse_dtype(name: str) -> np.dtype[Any]:
    """Return the dtype of plain numbers that a name means.

    Raises:
        ValueError: A dtype of another kind: with fields, of objects, of text.

    Example:
        >>> print(parse_dtype("<f4"), parse_dtype("bfloat16"))
        float32 bfloat16
    """
    if name in ("bfloat16", "V2"):  # the latter an old way to say it
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    if len(name) > 10 or not name.replace("<", "").replace(">", "").isalnum():
        raise ValueError(f"a dtype {name[:40]!r}")
    dtype = np.dtype(name)
    if dtype.name not in (*_DTYPES, *_INTEGERS):
        raise ValueError(f"a dtype {name!r}")
    return dtype
