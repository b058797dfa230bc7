"""docs/races.py: the page about who won, written from results alone."""

import dataclasses
import importlib.util
from pathlib import Path

import pytest

from racing import ValleyTask, run
from rmsprop.errors import FileError
from rmsprop.race import Folder
from rmsprop.race import task as tasks
from rmsprop.race.report import document
from rmsprop.race.verdict import rows, sentence

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture
def races(monkeypatch):
    spec = importlib.util.spec_from_file_location("docs_races", DOCS / "races.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    known = {name: ValleyTask() for name in ("valley", "gorge")}
    for name, task in known.items():
        task.name = name
    monkeypatch.setattr(module, "names", lambda: tuple(known))
    monkeypatch.setattr(module, "get", known.__getitem__)
    return module


def _keep(folder, task, results):
    Folder(folder / task.name).write(Folder.results_name, document(task, results))
    return results


def test_the_page_holds_every_optimizer_and_the_sentence(races, tmp_path):
    task = races.get("valley")
    results = _keep(tmp_path, task, run(task, rivals=("sgd", "adam", "rmsprop"), seeds=3, epochs=3))
    text = races.page(tmp_path)
    table = rows(task, results)
    assert f"**{sentence(table, task.metric)}**" in text
    for row in table:
        assert row.text(task.metric) in text
        assert f"| {row.label} |" in text or f"| **{row.label}** |" in text
    assert "Tasks measured: 1. RMSprop " in text
    assert "Not measured here: gorge." in text
    assert results.environment["date"][:10] in text
    assert results.environment["python"] in text
    # The budget is the task's own, and nothing is held against it.
    assert "not the task's own budget" not in text


def test_a_loss_is_counted_and_shown(races, tmp_path):
    task = races.get("valley")
    results = run(task, rivals=("sgd", "rmsprop"), seeds=2, epochs=3)
    # On a valley gradient descent with lr 1 arrives at once.
    _keep(tmp_path, task, results)
    text = races.page(tmp_path)
    assert "won 0, was among the best 0, lost 1." in text
    assert "lost, place 2 of 2" in text


def test_a_target_missed_or_reached_is_said(races, tmp_path):
    task = races.get("valley")
    results = _keep(tmp_path, task, run(task, rivals=("sgd", "rmsprop"), seeds=2, epochs=3))
    ours = next(row for row in rows(task, results) if row.rival == "rmsprop")
    for target, word in ((ours.mean * 2, "reached"), (ours.mean / 2, "MISSED")):
        task.metric = dataclasses.replace(task.metric, target=target)
        assert f"{task.metric.text(target)}, {word}" in races.page(tmp_path)


def test_less_than_the_budget_is_said(races, tmp_path):
    task = races.get("valley")
    results = run(task, seeds=2, epochs=1)
    del results.trials[next(key for key in results.trials if key[0] == "final" and key[3] == 1)]
    _keep(tmp_path, task, results)
    assert "With 1 epoch instead of 3 and a race that was broken off: not the task's own budget." in races.page(
        tmp_path
    )


def test_a_diverged_seed_stands_in_the_table(races, tmp_path):
    task = ValleyTask(poison={1: 3})
    task.name = "valley"
    _keep(tmp_path, task, run(task, rivals=("adam", "rmsprop"), seeds=3, epochs=3))
    assert "| 1 of 3 |" in races.page(tmp_path)


def test_a_sample_is_quoted(races, tmp_path):
    task = races.get("valley")
    results = run(task)
    results.sample = "And it came\nto pass"
    _keep(tmp_path, task, results)
    assert "    And it came\n    to pass\n" in races.page(tmp_path)


def test_without_results_the_page_says_so(races, tmp_path):
    assert "Not measured here: valley, gorge." in races.page(tmp_path)


def test_a_corrupt_file_is_refused(races, tmp_path):
    Folder(tmp_path / "valley").write(Folder.results_name, "{")
    with pytest.raises(FileError, match="is not a race's results"):
        races.page(tmp_path)


def test_the_table_of_tasks_in_the_docs_names_every_task_and_its_package():
    from rmsprop.race.sources import SOURCES

    text = (DOCS / "use" / "races.md").read_text(encoding="utf-8")
    for name in tasks.names():
        task = tasks.get(name)
        line = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        for need in getattr(task, "needs", ()):
            assert f"`{SOURCES[need].packages[0]}`" in line or name == "finetune", (name, need)
