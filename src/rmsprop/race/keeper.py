"""Keep a race on the disk while it runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rmsprop.errors import FileError
from rmsprop.race.folder import Folder
from rmsprop.race.record import Results
from rmsprop.race.report import document, draw
from rmsprop.race.task import Task

__all__ = ["Keeper"]


class Keeper:
    """What `rmsprop.race.run.race` calls after each trial, and the writer of the whole folder at the end.

    A new race leaves the folder as it is until its first trial is finished: then earlier results are set aside. A write
    that fails ends nothing: the trials stay in memory, and each later save tries again.

    Args:
        task: What is raced.
        folder: Where.
        held: Trials that the folder holds and the race goes on with; None: it is a new race.
        say: Called with a line for the reader.
    """

    def __init__(self, task: Task, folder: Folder, *, held: int | None, say: Callable[[str], None]) -> None:
        self._task, self._folder, self._say = task, folder, say
        self._new, self._written = held is None, held or 0
        self._failing = False

    def __call__(self, results: Results) -> None:
        """Write results.json, if the last time is long enough ago; a disk that is full is told once."""
        if not self._folder.due():
            return
        try:
            self._save(results)
        except FileError as error:
            if not self._failing:
                self._say(f"Not saved, and the race goes on: {error}.")
            self._failing = True

    def finish(self, results: Results) -> list[Path]:
        """Write results.json, and, if every optimizer has finished a seed, the picture and the report.

        Returns:
            The files written, the report last; none if no trial was finished.

        Raises:
            FileError: Something could not be written: the message says what is lost.
            MissingDependency: matplotlib is not installed; results.json is written.
        """
        if not results.trials:
            return []
        try:
            files = [self._save(results)]
        except FileError as error:
            trials = len(results.trials)
            raise FileError(
                f"{error}. Not written: {trials - self._written} of {trials} finished trials, and the report"
            ) from error
        try:
            return files + draw(self._task, results, self._folder)
        except FileError as error:
            raise FileError(f"{error}. Every trial is in {files[0]}; the report is not whole") from error

    def _save(self, results: Results) -> Path:
        if self._new:
            if previous := self._folder.set_aside():
                self._say(f"The earlier results are kept as {previous}.")
            self._new = False
        path = self._folder.write(Folder.results_name, document(self._task, results))
        self._written, self._failing = len(results.trials), False
        return path
