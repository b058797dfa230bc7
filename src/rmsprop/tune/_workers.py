"""Several processes that run the trials of one study.

Each worker process starts with one ticket, the right to run one trial, and takes another one after every finished
trial. There are as many tickets as trials are missing, so the workers together never run too many. A worker that is
killed, or in which a trial raises an exception, is not replaced; its ticket goes to another worker. An error of this
library, such as a missing package, would occur in every worker and ends the search at once.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from multiprocessing.connection import wait
from typing import Any

from rmsprop.errors import RMSpropError, StateError
from rmsprop.tune._study import Options, TuneResult, open_study, refresh

__all__ = ["run_workers"]

POLL_SECONDS = 0.3
EXIT_SECONDS = 5.0


def run_workers(
    job: Callable[..., TuneResult],
    workers: int,
    options: Options,
    *,
    listener: Callable[[TuneResult], None] | None,
    say: Callable[[str], None],
) -> TuneResult:
    """Run `job(options, callbacks=...)` in several processes until the study has its trials; see `tune_task`."""
    context, receivers = multiprocessing.get_context("spawn"), dict[Any, Any]()
    with open_study(options) as opened:

        def count_missing() -> int:
            result = refresh(opened)
            if listener is not None and result.done:
                listener(result)
            return max(options.trials - result.done, 0)

        try:
            missing = count_missing()
            workers = min(workers, missing)
            tickets = context.Semaphore(missing - workers)
            with _ignore_interrupts():
                for _ in range(workers):
                    receiver, sender = context.Pipe(duplex=False)
                    worker = context.Process(target=_work, args=(partial(job, options), tickets, sender), daemon=True)
                    worker.start()
                    sender.close()
                    receivers[worker] = receiver
            alive, error = list(receivers), None
            while alive:
                wait([worker.sentinel for worker in alive], POLL_SECONDS)
                for worker in [worker for worker in alive if not worker.is_alive()]:
                    alive.remove(worker)
                    if failure := _find_failure(worker, receivers[worker], say):
                        error = error or failure
                        tickets.release()
                if not count_missing():
                    for _ in alive:  # those that wait for a ticket see that the study is complete
                        tickets.release()
            if error is not None and count_missing():
                raise error
        except KeyboardInterrupt:
            return refresh(opened, interrupted=True)
        finally:
            _stop(receivers)
        return refresh(opened)


def _find_failure(worker: Any, receiver: Any, say: Callable[[str], None]) -> Exception | None:
    """Report a worker that did not end by itself, and return the error to raise if no other is left."""
    try:
        error: Exception = receiver.recv()
    except EOFError:
        if not worker.exitcode:
            return None
        say(f"A worker died (exit code {worker.exitcode}); its trial does not count, the others go on.")
        return StateError("every worker died: run the same command again to continue the study")
    if isinstance(error, RMSpropError):
        raise error
    say(f"A trial raised {_describe(error)}; it does not count, and its worker ended.")
    return error


def _stop(workers: Iterable[Any]) -> None:
    with _ignore_interrupts():
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join(EXIT_SECONDS)
            worker.kill()
            worker.join()


@contextlib.contextmanager
def _ignore_interrupts() -> Iterator[None]:
    """Ignore Ctrl-C inside; a process that is started inside ignores it always, and is stopped by its parent."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _work(job: Callable[..., TuneResult], tickets: Any, sender: Any) -> None:
    """Run the job in a worker process, and send its error to the parent."""
    # As Ctrl-C does in one process: Optuna marks the running trial as failed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    threading.Thread(target=_exit_with_parent, daemon=True).start()

    def take_ticket(study: Any, trial: Any) -> None:
        if trial.state.name != "FAIL":
            tickets.acquire()

    try:
        result = job(callbacks=[take_ticket])
    except Exception as error:
        sender.send(_make_picklable(error))
    else:
        sys.exit(128 + signal.SIGTERM if result.interrupted else 0)


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _make_picklable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(_describe(error))
    return error


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
