"""Fixtures of the benchmark tests."""

import pytest

from rmsprop.errors import FileError, MissingDependency
from rmsprop.race import task as tasks
from small_tasks import DeviceTask, FailingTask, ValleyTask


@pytest.fixture
def command_tasks(monkeypatch):
    """Let the command find the tasks of `small_tasks`, and draw nothing, which takes a second."""
    known = {
        task.name: task
        for task in (
            ValleyTask(),
            DeviceTask(),
            FailingTask("absent", MissingDependency("the package valley-data is missing: rmsprop race absent --fetch")),
            FailingTask("broken", OSError(8, "Exec format error")),
            FailingTask("corrupt", FileError("valley.csv: SHA-256 1, expected 2")),
            FailingTask("slow", KeyboardInterrupt()),
        )
    }
    get = tasks.get
    monkeypatch.setattr(tasks, "get", lambda name: known[name] if name in known else get(name))
    monkeypatch.setattr("rmsprop.race.report.draw_png", lambda *_: b"")
    monkeypatch.setattr("rmsprop.race.report.draw_svg", lambda *_: "<svg></svg>")
    return known
