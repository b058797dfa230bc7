"""What is seen while a race runs."""

import dataclasses
import io
import itertools
import re

import pytest
from rich.console import Console

from racing import ValleyTask, run
from rmsprop.race import get
from rmsprop.race.conduct import Outcome
from rmsprop.race.display import Display, _clock, final_table, overview
from rmsprop.race.verdict import rows


def _shown(task, *, terminal, **options):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=120, color_system=None)
    with Display(task, console) as display:
        results = run(task, listener=display, **options)
    return results, console.file.getvalue()


def test_a_pipe_gets_a_line_per_choice_and_per_reported_trial():
    task = ValleyTask()
    _, text = _shown(task, terminal=False, optimizers=("adam", "rmsprop"), seeds=2)
    lines = text.splitlines()
    assert "Tuning 2 optimizers, 10 trials in all ..." in lines
    assert sum(line.startswith(("  Adam: lr", "  RMSprop: lr")) for line in lines) == 2
    assert sum(re.match(r"  seed [01], (Adam|RMSprop): \d", line) is not None for line in lines) == 4
    assert "\x1b" not in text


def test_a_pipe_is_told_what_diverged():
    _, text = _shown(ValleyTask(poison={0: 2}), terminal=False)
    assert "  seed 0, Adam: diverged" in text


def test_a_terminal_sees_every_optimizer_and_the_progress(monkeypatch):
    monkeypatch.setattr("rmsprop.race.display._SECONDS_PER_FRAME", 0.0)
    pytest.importorskip("sklearn")
    _, text = _shown(get("digits"), terminal=True, optimizers=("sgd", "rmsprop"), seeds=1)
    for word in ("Gradient descent", "RMSprop", "tuning", "racing", "10/10", "tries lr 0.001", "seed 0, epoch 2"):
        assert word in text, word
    assert set(text) & set("▁▂▃▄▅▆▇█")


def test_frames_are_drawn_ten_times_a_second_at_most(monkeypatch):
    monkeypatch.setattr("rmsprop.race.display.time.monotonic", lambda: 100.0)
    _, text = _shown(ValleyTask(), terminal=True)
    assert text.count("trials") <= 3


def test_a_terminal_sees_the_steps_of_a_long_epoch_and_a_pipe_does_not(monkeypatch):
    monkeypatch.setattr("rmsprop.race.display._SECONDS_PER_FRAME", 0.0)
    monkeypatch.setattr("rmsprop.race.trial.SECONDS_BETWEEN_SIGNS", 0.0)
    _, text = _shown(ValleyTask(), terminal=True)
    assert "tries lr 0.01, epoch 1, step 3" in text
    assert "seed 0, epoch 2, step 4" in text
    assert "step 3" not in _shown(ValleyTask(), terminal=False)[1]


def test_a_pipe_hears_of_a_long_race_every_half_minute(monkeypatch):
    # Each reading of the clock is a second later than the one before.
    ticks = itertools.count()
    monkeypatch.setattr("rmsprop.race.display.time.monotonic", lambda: float(next(ticks)))
    monkeypatch.setattr("rmsprop.race.display._SECONDS_PER_LINE", 5.0)
    _, text = _shown(ValleyTask(), terminal=False, optimizers=("adam", "rmsprop"), seeds=2)
    told = [line for line in text.splitlines() if " of 10 trials, " in line]
    assert 0 < len(told) < 10
    assert re.fullmatch(r"  \d+ of 10 trials, \d+ s(, about \d+ s left)?", told[0])
    assert " left" in told[-1]


def test_a_pipe_hears_nothing_of_that_in_a_short_race():
    assert " trials, " not in _shown(ValleyTask(), terminal=False)[1].replace("trials in all", "")


def test_the_time_left_of_slow_trials_is_known(monkeypatch):
    # Trials of 80 s: what rich remembers by itself, half a minute, would hold one of them at most.
    now = 0.0
    display = Display(ValleyTask(), Console(file=io.StringIO()))
    progress = display._progress
    progress.get_time = lambda: now
    progress.update(display._bar, total=10)
    for _ in range(4):
        now += 80.0
        progress.advance(display._bar)
    assert progress.tasks[0].time_remaining == pytest.approx(480, abs=1)


@pytest.mark.parametrize(
    ("seconds", "words"), [(40.2, "40 s"), (119, "119 s"), (125, "2 min"), (3599, "59 min"), (3900, "1 h 05 min")]
)
def test_durations_are_written_as_people_say_them(seconds, words):
    assert _clock(seconds) == words


def test_the_final_table_shows_every_optimizer_within_eighty_columns():
    task = ValleyTask(poison={1: 3})
    results = run(task, optimizers=("sgd", "momentum", "rmsprop"), seeds=3)
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(final_table(task, results, rows(task, results)))
    text = console.file.getvalue()
    assert "…" not in text
    for line in rows(task, results):
        assert line.label in text
        assert line.text(task.metric) in text
    assert "1 of 3" in text


def test_the_overview_keeps_to_one_line_a_task_in_eighty_columns():
    task = ValleyTask()
    task.name = "digits-speech"  # the longest name there is, and the longest optimizer
    task.metric = dataclasses.replace(task.metric, better="higher", percent=True)
    results = run(task, optimizers=("sgd", "rmsprop"), seeds=3)
    table = rows(task, results)
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(overview([Outcome(task=task, results=results, complete=True)]))
    (line,) = [line for line in console.file.getvalue().splitlines() if "digits-speech" in line]
    assert len(table) == 2
    assert table[0].label in line
    assert re.search(r"(tie|won|(tie|lost), 2 of 2) *$", line)
