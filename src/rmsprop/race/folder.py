"""The folder of a benchmark: its files are written atomically."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rmsprop._files import write_atomically
from rmsprop.errors import FileError
from rmsprop.race.record import Results

__all__ = ["Folder"]

SECONDS_BETWEEN_SAVES = 1.0


class Folder:
    """The folder that a benchmark, a study or a measurement writes its files to; made if missing.

    Raises:
        FileError: It cannot be made or written to.
    """

    results_name = "results.json"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._saved = 0.0
        with _explain_errors(path):
            path.mkdir(parents=True, exist_ok=True)
            # Raises now what would otherwise be raised after a minute of training.
            with tempfile.TemporaryFile(dir=path):
                pass

    def load(self) -> Results | None:
        """Return the benchmark in the folder, or None if there is none; FileError if it is unreadable or corrupt."""
        file = self.path / self.results_name
        if not file.exists():
            return None
        with _explain_errors(file):
            text = file.read_text(encoding="utf-8", errors="replace")
        return Results.from_json(text, where=file)

    def set_aside(self) -> Path | None:
        """Rename results.json to results.previous-N.json with a new number N, and remove the report drawn from it.

        Return the new path, or None if there was no results.json.
        """
        file = self.path / self.results_name
        if not file.exists():
            return None
        matches = (re.fullmatch(r"results\.previous-(\d+)\.json", entry.name) for entry in self.path.iterdir())
        last = max((int(match[1]) for match in matches if match), default=0)
        previous = self.path / f"results.previous-{last + 1}.json"
        with _explain_errors(file):
            os.replace(file, previous)
            for name in ("report.html", "curves.png"):
                (self.path / name).unlink(missing_ok=True)
        return previous

    def is_save_due(self) -> bool:
        """Whether the last save is so long ago that it is time for the next."""
        return time.monotonic() - self._saved > SECONDS_BETWEEN_SAVES

    def write(self, name: str, content: bytes | str) -> Path:
        """Write a file atomically.

        Raises:
            FileError: The disk is full or the folder is not writable; the old file is unchanged.
        """
        file = self.path / name
        with _explain_errors(file), write_atomically(file) as temporary:
            temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        self._saved = time.monotonic()
        return file


@contextlib.contextmanager
def _explain_errors(path: Path) -> Iterator[None]:
    """Turn OSError into a FileError that says what to do."""
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
