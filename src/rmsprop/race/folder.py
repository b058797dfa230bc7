"""The folder a race is kept in: every file in it is whole or not there."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rmsprop.errors import FileError
from rmsprop.race.record import Results

__all__ = ["Folder"]

SECONDS_BETWEEN_SAVES = 1.0


class Folder:
    """Where a race's files lie; every file is whole or not there.

    Args:
        path: The folder; made if missing.

    Raises:
        FileError: It cannot be made or written to.
    """

    results_name = "results.json"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._saved = 0.0
        with _explained(path):
            path.mkdir(parents=True, exist_ok=True)
            # Better refused now than after a minute of training.
            with tempfile.TemporaryFile(dir=path):
                pass

    def load(self) -> Results | None:
        """Return the race in the folder, or None if there is none.

        Raises:
            FileError: Unreadable or corrupt.
        """
        file = self.path / self.results_name
        if not file.exists():
            return None
        with _explained(file):
            raw = file.read_bytes()
        return Results.from_json(raw.decode("utf-8", errors="replace"), where=file)

    def set_aside(self) -> Path | None:
        """Rename earlier results, remove the report drawn from them, and say where they went.

        Results set aside before stay: results.previous-1.json, results.previous-2.json and so on.

        Raises:
            FileError: The folder is not writable.
        """
        file = self.path / self.results_name
        if not file.exists():
            return None
        earlier = (re.fullmatch(r"results\.previous-(\d+)\.json", entry.name) for entry in self.path.iterdir())
        last = max((int(found[1]) for found in earlier if found), default=0)
        previous = self.path / f"results.previous-{last + 1}.json"
        with _explained(file):
            os.replace(file, previous)
            for name in ("report.html", "curves.png"):
                (self.path / name).unlink(missing_ok=True)
        return previous

    def due(self) -> bool:
        """Whether the last save is long enough ago that a kill now would lose much."""
        return time.monotonic() - self._saved > SECONDS_BETWEEN_SAVES

    def write(self, name: str, content: bytes | str) -> Path:
        """Write a file at once: under another name first, then renamed over the old one.

        Raises:
            FileError: The disk is full or the folder is not writable; the old file stands.
        """
        file = self.path / name
        with _explained(file):
            handle, temporary = tempfile.mkstemp(dir=self.path, prefix=f".{name}.")
            try:
                with os.fdopen(handle, "wb") as stream:
                    stream.write(content.encode() if isinstance(content, str) else content)
                    stream.flush()
                    os.fsync(stream.fileno())
                # mkstemp makes files that only their owner can read; a report is there to be shown.
                os.chmod(temporary, 0o644)
                os.replace(temporary, file)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise
        self._saved = time.monotonic()
        return file


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses into a FileError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            advice = "the disk is full: free some space and add --resume; what was saved before is unharmed"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            advice = "no permission to write there: choose another --out"
        else:
            advice = f"{error.strerror or error}: choose another --out"
        raise FileError(f"{path}: {advice}") from error
