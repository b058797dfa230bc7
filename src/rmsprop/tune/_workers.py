"""Several processes at work on one study: started, watched and gathered in by the one that was asked.

A worker that dies, or in which a trial raises, costs that trial and is not replaced: the others go on. What the library
itself refuses (other data, another question, a missing package) would meet them all, and ends the search at once.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rmsprop.errors import RMSpropError, StateError
from rmsprop.tune._found import Tuned, known
from rmsprop.tune._storage import bury_the_dead
from rmsprop.tune._tune import search

__all__ = ["supervise"]

SECONDS_BETWEEN_LOOKS = 0.3
SECONDS_TO_LEAVE = 5.0
RAISED = 75
"""The exit code of a worker that has sent its exception."""


def supervise(
    study: Any, job: Any, workers: int, *, listener: Callable[[Tuned], None] | None, say: Callable[[str], None]
) -> Tuned:
    """Start the workers, watch the storage, and gather them in."""
    options = job[3]
    space, direction, trials = options["space"], options["direction"], options["trials"]
    resumed = known(study, space, direction).done
    spawn = multiprocessing.get_context("spawn")
    raised = spawn.SimpleQueue()
    handle, lock_file = tempfile.mkstemp(prefix="rmsprop-tune-")
    os.close(handle)
    crew = [spawn.Process(target=_work, args=(job, lock_file, raised), daemon=True) for _ in range(workers)]
    interrupted, seen, mourned = False, -1, set()
    causes: list[Exception] = []
    try:
        with _deaf():
            for worker in crew:
                worker.start()
        while True:
            alive = [worker for worker in crew if worker.is_alive()]
            while not raised.empty():
                causes.append(raised.get())
                if isinstance(causes[-1], RMSpropError):
                    raise causes[-1]
                say(f"A trial raised {_words(causes[-1])}; it does not count, and its worker ended.")
            for worker in crew:
                if worker.exitcode not in (None, 0, RAISED) and worker.pid not in mourned:
                    mourned.add(worker.pid)
                    say(f"A worker died (exit code {worker.exitcode}); its trial does not count, the others go on.")
            now = known(study, space, direction, resumed=resumed)
            if listener is not None and now.done != seen:
                seen = now.done
                listener(now)
            # What the last one put into the queue before it ended is read first.
            if not alive and raised.empty():
                break
            time.sleep(SECONDS_BETWEEN_LOOKS)
        if now.done < trials and causes:
            raise causes[0]
        if now.done < trials:
            raise StateError(
                f"every worker died before the study had {trials} trials; {now.done} are kept: the same command goes on"
            )
    except KeyboardInterrupt:
        interrupted = True
    finally:
        with _deaf():
            for worker in crew:
                if worker.is_alive():
                    worker.terminate()
            for worker in crew:
                if worker.pid is not None:
                    worker.join(SECONDS_TO_LEAVE)
                    if worker.is_alive():
                        worker.kill()
                        worker.join()
            with contextlib.suppress(OSError):
                os.unlink(lock_file)
            bury_the_dead(study)
    return known(study, space, direction, resumed=resumed, interrupted=interrupted)


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Ignore Ctrl-C inside; a process started here ignores it for ever, and is ended by its parent."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _work(job: Any, lock_file: str, raised: Any) -> None:
    """What a worker process does: share the study's trials with the others until it has enough."""
    task, make, storage, options = job
    parent = multiprocessing.parent_process()
    try:
        with task.session():
            search(
                make(task, task.load()),
                storage=storage,
                lock=_FileLock(lock_file),
                go_on=lambda: parent is None or parent.is_alive(),
                **options,
            )
    except Exception as error:
        raised.put(_sendable(error))
        raise SystemExit(RAISED) from None


def _sendable(error: Exception) -> Exception:
    """Return the exception, or one with its words if it does not survive the way to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(_words(error))
    return error


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


class _FileLock:
    """A lock between processes that the system releases when its holder dies, as no lock in memory would be.

    Its holder cannot be terminated, only killed: a trial that was begun without its owner's name would run for ever.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._file: Any = None
        self._before: Any = signal.SIG_DFL
        self._asked = False

    def __enter__(self) -> None:
        # A handler, not a mask: a mask is one thread's, and the system gives the signal to any thread without one.
        self._asked = False
        self._before = signal.signal(signal.SIGTERM, self._wait)
        try:
            import fcntl
        except ImportError:
            # Without it two processes may at worst begin one trial too many.
            return
        with contextlib.suppress(FileNotFoundError):
            self._file = self._path.open("r+")
            fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *raised: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        signal.signal(signal.SIGTERM, self._before)
        if self._asked:
            os.kill(os.getpid(), signal.SIGTERM)

    def _wait(self, *signalled: object) -> None:
        self._asked = True
