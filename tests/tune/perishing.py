"""Tasks in which a tuner's worker comes to grief; in a file of their own, for the workers import them."""

from __future__ import annotations

import contextlib
import os
import signal

from small_tasks import ValleyTask


class Deadly(ValleyTask):
    """A task during whose first trial the worker is killed."""

    name = "deadly"

    def __init__(self, marker):
        super().__init__()
        self._marker = marker

    def learner(self, data, seed):
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self._marker, os.O_CREAT | os.O_EXCL))
            self.perish()
        return super().learner(data, seed)

    def perish(self):
        os.kill(os.getpid(), signal.SIGKILL)


class Hungry(Deadly):
    """A task whose first trial finds no memory."""

    name = "hungry"

    def perish(self):
        raise MemoryError("no room for 7 TiB")


class Fussy(Exception):
    """An exception that cannot be sent to another process: it is pickled, and not built again."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


class Hopeless(ValleyTask):
    """A task whose every trial raises that."""

    name = "hopeless"

    def learner(self, data, seed):
        raise Fussy("one", "two")
