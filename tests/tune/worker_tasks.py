"""Tasks for tests with worker processes; the workers import this module."""

from __future__ import annotations

import fcntl
import os
import signal
import time

from rmsprop.errors import FileError
from small_tasks import ValleyTask


class FolderTask(ValleyTask):
    """A task with a folder that its workers write to."""

    def __init__(self, folder):
        super().__init__()
        self._folder = folder


class MeetingTask(FolderTask):
    """A task whose first trial in each of two workers waits for the other worker."""

    def learner(self, data, seed):
        (self._folder / f"{os.getpid()}").touch()
        while len(list(self._folder.iterdir())) < 2:
            time.sleep(0.01)
        return super().learner(data, seed)


class EndlessTask(FolderTask):
    """A task whose trials never end; each worker holds a lock on a file while it lives."""

    def learner(self, data, seed):
        file = (self._folder / f"{os.getpid()}.new").open("w")
        fcntl.flock(file, fcntl.LOCK_EX)
        os.rename(file.name, file.name.removesuffix(".new"))
        while True:
            time.sleep(1)


class FailingTask(ValleyTask):
    """A task whose trials fail, or only the first one if there is a marker file to write."""

    def __init__(self, how, *, marker=None):
        super().__init__()
        self._how, self._marker = how, marker

    def learner(self, data, seed):
        try:
            if self._marker is not None:
                self._marker.touch(exist_ok=False)
        except FileExistsError:
            return super().learner(data, seed)
        if self._how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise ERRORS[self._how]


class UnpicklableError(Exception):
    """An exception that pickle writes and cannot read."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


ERRORS = {
    "memory": MemoryError("no room for 7 TiB"),
    "unpicklable": UnpicklableError("one", "two"),
    "library": FileError("valley.csv: SHA-256 1, expected 2"),
}
