"""Zip archives (.keras, stable-baselines3) whose members are read in memory, and nested trees of dicts and lists."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from rmsprop.errors import FileError

__all__ = ["copied", "found", "member", "members", "places", "short"]


def members(path: str | Path) -> list[str]:
    """Return the names in a zip file; [] if it is none.

    Raises:
        FileError: Truncated, or a member whose path leaves the archive.
    """
    with open(path, "rb") as file:
        if file.read(2) != b"PK":
            return []
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise FileError(f"{path}: a truncated or corrupt zip archive ({error})") from error
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
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(name)
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, EOFError) as error:
        raise FileError(f"{path}: {name!r} in the archive is truncated or corrupt ({error})") from error


def copied(source: str | Path, target: str | Path, name: str, data: bytes) -> None:
    """Write a copy of a zip archive with one member replaced; the others keep their bytes."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for item in old.infolist():
            new.writestr(item, data if item.filename == name else old.read(item), compress_type=item.compress_type)


def places(tree: Any, wanted: Callable[[Mapping[str, Any]], bool], path: str = "") -> Iterator[str]:
    """Yield the paths ("a/0/b") of the dicts in a nested tree that `wanted` accepts; their insides are not searched."""
    if isinstance(tree, Mapping):
        if wanted(tree):
            yield path
            return
        children: Any = tree.items()
    elif isinstance(tree, (list, tuple)):
        children = enumerate(tree)
    else:
        return
    for key, child in children:
        yield from places(child, wanted, f"{path}/{key}" if path else str(key))


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
