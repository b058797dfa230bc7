"""Promise: Ctrl-C ends a command that has begun without a traceback, and the same command works afterwards."""

import contextlib
import os
import random
import signal
import subprocess

import pytest
from chaos_programs import SHORT

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]


@pytest.mark.parametrize("name", SHORT)
def test_an_interrupt_is_no_traceback_and_the_next_start_works(starter, name):
    rng = random.Random(name)
    for _ in range(4):
        process = starter.start(*SHORT[name])
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0.1, 2.5))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=100)
        # Until Python has imported the package, the traceback is Python's own.
        assert ", in main\n" not in errors, errors
        assert process.returncode in (0, 1, 130, -signal.SIGINT), errors
    assert starter.run(*SHORT[name])[0] == 0
