"""Processes that form one gloo group on the loopback, start once, and run job after job."""

import contextlib
import datetime
import faulthandler
import multiprocessing
import os
import tempfile
import time
import traceback
import warnings

PATIENCE = 200
"""Seconds that a job may take; a collective that waits for a failed rank gives up earlier."""

THIRD_PARTY = [
    # torch.distributed.checkpoint's own use of its deprecated classes.
    ("ignore", "Please use DTensor instead", FutureWarning),
    ("ignore", "TypedStorage is deprecated", UserWarning),
]


class Ranks:
    """Run functions on every rank: `ranks(job, *args)` returns what `job(*args)` returned on rank 0, 1, ..."""

    def __init__(self, size):
        self.size = size
        self._folder = None
        self._members = []

    def __call__(self, job, *args):
        if not self._members:
            self._start()
        for _, pipe in self._members:
            pipe.send((job, args))
        deadline = time.monotonic() + PATIENCE
        results = []
        for rank, (process, pipe) in enumerate(self._members):
            result = self._receive(rank, process, pipe, deadline)
            results.append(result)
        return results

    def _receive(self, rank, process, pipe, deadline):
        failure = None
        try:
            if pipe.poll(max(0.0, deadline - time.monotonic())):
                failure, result = pipe.recv()
                if failure is None:
                    return result
            else:
                failure = f"no answer within {PATIENCE} s"
        except EOFError:
            failure = f"the process ended with exit code {process.exitcode}"
        others = self._other_failures(rank)
        self.stop()  # the other ranks may wait for this one for ever
        raise AssertionError("\n".join([f"rank {rank} of {self.size}: {failure}", *others]))

    def _other_failures(self, rank):
        reports = []
        for other, (_, pipe) in enumerate(self._members):
            with contextlib.suppress(EOFError):
                if other > rank and pipe.poll(1):
                    reports.append(f"rank {other} of {self.size}: {pipe.recv()[0]}")
        return reports

    def _start(self):
        # A file instead of a port: nobody else can take it between choosing and using.
        self._folder = tempfile.TemporaryDirectory(prefix="ranks")
        context = multiprocessing.get_context("spawn")
        for rank in range(self.size):
            mine, theirs = context.Pipe()
            meeting = f"file://{self._folder.name}/meeting"
            process = context.Process(target=_member, args=(rank, self.size, meeting, theirs), daemon=True)
            process.start()
            theirs.close()
            self._members.append((process, mine))

    def stop(self):
        for process, pipe in self._members:
            pipe.close()
            process.join(5)
            if process.is_alive():
                process.kill()
                process.join(5)
        self._members = []
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


def _member(rank, size, meeting, pipe):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    patience = datetime.timedelta(seconds=150)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size, timeout=patience)
    try:
        while True:
            try:
                job, args = pipe.recv()
            except EOFError:
                break
            try:
                faulthandler.dump_traceback_later(PATIENCE - 20)  # where a job hangs, before it is given up
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    for action, message, category in THIRD_PARTY:
                        warnings.filterwarnings(action, message, category)
                    pipe.send((None, job(*args)))
            except Exception:
                pipe.send((traceback.format_exc(), None))
            faulthandler.cancel_dump_traceback_later()
    finally:
        os._exit(0)  # leaving the group in order would wait for ranks that are gone
