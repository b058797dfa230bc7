"""Promise: a program that is killed at any moment loses nothing that it reported, and every later start works."""

import contextlib
import os
import random
import re
import signal
import sqlite3
import subprocess
import time

import pytest
from chaos_programs import RACE, SAVER, SHORT, TUNE, load_count

from rmsprop import checkpoints
from rmsprop.race import Folder

CHAINS, KILLS = 5, 10

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]


def kill(process, seconds):
    """Kill a program and its workers after some seconds; return (exit code, output, errors)."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    output, errors = process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), errors
    assert "Traceback" not in errors, errors
    return process.returncode, output, errors


def time_run(starter, *words):
    begin = time.monotonic()
    code, _, errors = starter.run(*words)
    assert code == 0, errors
    return time.monotonic() - begin


@pytest.mark.parametrize("chain", range(CHAINS))
def test_a_killed_save_loses_no_reported_step(starter, chain):
    rng, reported = random.Random(chain), 0
    for _ in range(KILLS):
        process = starter.start(*["resume"] * bool(reported), program=("-c", SAVER))
        _, output, _ = kill(process, rng.uniform(0.2, 1.5))
        reported = max([reported, *map(int, output.split())])
        assert load_count(starter.folder) >= reported


@pytest.mark.parametrize("chain", range(CHAINS))
@pytest.mark.parametrize("name", ["convert", "convert to optax", "convert to orbax"])
def test_a_killed_conversion_leaves_the_old_or_the_new_file(starter, name, chain):
    words = SHORT[name]
    seconds, rng, target = time_run(starter, *words), random.Random(chain), starter.folder / words[2]
    for _ in range(KILLS if name == "convert" else 2):
        kill(starter.start(*words), rng.uniform(0.0, 1.1 * seconds))
        assert checkpoints.read(target).elements == 5000
        assert starter.run("convert", words[2])[0] == 0
    assert starter.run(*words)[0] == 0


@pytest.mark.parametrize("chain", range(CHAINS))
def test_a_killed_race_loses_no_saved_trial_and_is_resumed(starter, chain):
    words = [*RACE, "--rates", "0.001,0.01,0.1", "--resume"]
    rng, out = random.Random(chain), starter.folder / "out"
    saved = {}
    for _ in range(KILLS):
        kill(starter.start(*words), rng.uniform(0.3, 3.0))
        results = Folder(out).load() if out.exists() else None
        now = results.trials if results else {}
        assert saved.items() <= now.items()
        saved = now
    code, _, errors = starter.run(*words)
    assert code == 0, errors
    assert saved.items() <= Folder(out).load().trials.items()
    assert (out / "report.html").exists()


@pytest.mark.parametrize("chain", range(CHAINS))
def test_a_killed_search_loses_no_reported_trial_and_is_continued(starter, chain):
    rng, reported = random.Random(chain), set()
    for _ in range(KILLS):
        _, output, _ = kill(starter.start(*TUNE, "40"), rng.uniform(0.3, 4.0))
        reported |= set(map(int, re.findall(r"^  trial (\d+):", output, re.MULTILINE)))
    code, _, errors = starter.run(*TUNE, str(len(reported) + 2))
    assert code == 0, errors
    with sqlite3.connect(starter.folder / "study.db") as study:
        ended = study.execute("SELECT number FROM trials WHERE state IN ('COMPLETE', 'PRUNED')").fetchall()
    assert reported <= {number for (number,) in ended}
