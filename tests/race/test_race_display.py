"""What the terminal or a log shows while a benchmark runs, and the tables at its end."""

import dataclasses
import io
import re

import pytest
from rich.console import Console

from rmsprop.race.display import Display, make_final_table, make_overview
from rmsprop.race.record import Outcome
from rmsprop.race.run import RaceStarted
from rmsprop.race.verdict import make_table
from small_tasks import ValleyTask, run_race


def print_race(task, *, terminal, **options):
    """Run a benchmark with a display and return what it printed."""
    console = Console(file=io.StringIO(), force_terminal=terminal, width=120, color_system=None)
    with Display(task, console) as display:
        run_race(task, listener=display, **options)
    return console.file.getvalue()


def print_in_80_columns(table):
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(table)
    return console.file.getvalue()


def test_a_log_gets_a_line_for_each_choice_and_each_reported_trial():
    text = print_race(ValleyTask(poison={0: 2}), terminal=False)
    lines = text.splitlines()
    assert "Tuning 2 optimizers, 10 trials in all ..." in lines
    assert sum(line.startswith(("  Adam: lr", "  RMSprop: lr")) for line in lines) == 2
    assert "  seed 0, Adam: diverged" in lines
    assert sum(re.fullmatch(r"  seed 1, (Adam|RMSprop): \d\S*", line) is not None for line in lines) == 2
    assert "\x1b" not in text
    assert "step" not in text


def test_a_terminal_shows_all_optimizers_the_progress_and_the_steps_of_long_epochs(monkeypatch):
    monkeypatch.setattr("rmsprop.race.display._SECONDS_PER_FRAME", 0.0)
    monkeypatch.setattr("rmsprop.race.trial.SECONDS_BETWEEN_EVENTS", 0.0)
    task = ValleyTask()
    task.metric = dataclasses.replace(task.metric, percent=True)
    text = print_race(task, terminal=True, optimizers=("sgd", "rmsprop"), seeds=1)
    for word in (
        "Gradient descent",
        "tuning",
        "final trials",
        "8/8",
        "tries lr 0.01, epoch 1, step 3",
        "seed 0, epoch 2",
    ):
        assert word in text, word
    assert set(text) & set("▁▂▃▄▅▆▇█")


def test_at_most_ten_frames_are_drawn_per_second(monkeypatch):
    monkeypatch.setattr("rmsprop.race.display.time.monotonic", lambda: 100.0)
    # The first frame, one of the events, and the last one at the end.
    assert 1 <= print_race(ValleyTask(), terminal=True).count(" left ") <= 3


def print_slow_race(monkeypatch, seconds):
    """Return what a log gets of a benchmark of ten trials that take `seconds` each."""
    now = 0.0
    monkeypatch.setattr("rmsprop.race.display.time.monotonic", lambda: now)
    console = Console(file=io.StringIO(), width=120, color_system=None, get_time=lambda: now)
    results = run_race(ValleyTask())
    display = Display(ValleyTask(), console)
    display(RaceStarted(results.settings, 10, 0))
    for trial in results.trials.values():
        now += seconds
        display(trial)
    return [line for line in console.file.getvalue().splitlines() if " of 10 trials, " in line]


@pytest.mark.parametrize(("seconds", "lines"), [(0.1, 0), (10, 2), (40, 10)])
def test_a_log_gets_a_line_of_progress_at_most_every_half_minute(monkeypatch, seconds, lines):
    assert len(print_slow_race(monkeypatch, seconds)) == lines


@pytest.mark.parametrize(
    ("seconds", "line"),
    [
        (40, "  3 of 10 trials, 2 min, about 4 min left"),
        (35.2, "  3 of 10 trials, 106 s, about 4 min left"),
        (1300, "  3 of 10 trials, 1 h 05 min, about 2 h 31 min left"),
    ],
)
def test_the_remaining_time_is_estimated_from_all_trials_however_slow_they_are(monkeypatch, seconds, line):
    assert print_slow_race(monkeypatch, seconds)[2] == line


def test_the_final_table_shows_all_optimizers_in_80_columns():
    task = ValleyTask(poison={1: 3})
    results = run_race(task, optimizers=("sgd", "momentum", "rmsprop"), seeds=3)
    rows = make_table(task, results)
    text = print_in_80_columns(make_final_table(task, results, rows))
    assert "…" not in text
    for row in rows:
        assert row.label in text
        assert row.text(task.metric) in text
    assert "1 of 3" in text


def test_the_overview_has_a_line_for_each_task_in_80_columns():
    task = ValleyTask()
    task.name = "sentiment"  # the longest name of a task
    task.metric = dataclasses.replace(task.metric, better="higher", percent=True)
    results = run_race(task, optimizers=("sgd", "rmsprop"), seeds=3)
    best = max(make_table(task, results), key=lambda row: row.mean)
    text = print_in_80_columns(
        make_overview(
            [
                Outcome(task=task, results=results, status="complete"),
                Outcome(task=ValleyTask(), results=None, status="absent"),
            ]
        )
    )
    (line,) = [line for line in text.splitlines() if "sentiment" in line]
    assert f"{best.label}, {task.metric.text(best.mean)}" in line
    assert re.search(r"(won|lost to 1 of 1|not significantly different) *$", line)
    assert re.search(r"valley +- +- +skipped", text)
