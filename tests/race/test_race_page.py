"""docs/races.py: the page about who won, written from results alone."""

import dataclasses
import importlib.util
import re
from pathlib import Path

import pytest

from racing import ValleyTask, run
from rmsprop.errors import FileError
from rmsprop.race import Folder, Settings, choice, race
from rmsprop.race import task as tasks
from rmsprop.race.report import document
from rmsprop.race.verdict import rows, sentence, standing

DOCS = Path(__file__).parents[2] / "docs"


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
    results = _keep(tmp_path, task, run(task, optimizers=("sgd", "adam", "rmsprop"), seeds=3, epochs=3))
    text = races.page(tmp_path)
    table = rows(task, results)
    assert f"**{sentence(table, task.metric)}**" in text
    for row in table:
        assert row.text(task.metric) in text
        assert f"| {row.label} |" in text or f"| **{row.label}** |" in text
    # Not the default five optimizers: shown, and not counted.
    assert "Tasks measured: 1, counted with the whole budget 0: " in text
    assert "None is counted. Those marked ° spent less" in text
    assert "Not measured here: gorge." in text
    assert results.environment["date"][:10] in text
    assert results.environment["python"] in text
    assert "With Gradient descent and Adam as the only baselines: not the task's own budget." in text


def test_a_loss_with_the_whole_budget_is_counted_and_nothing_is_held_against_it(races, tmp_path):
    task = races.get("valley")
    results = run(task, optimizers=choice.DEFAULT, seeds=3, epochs=3)
    for key, trial in results.trials.items():
        if key[:2] == ("final", "rmsprop"):
            results.trials[key] = dataclasses.replace(trial, score=tuple(score + 9 for score in trial.score))
    place = standing(rows(task, results))
    assert place == "lost, place 5 of 5"
    _keep(tmp_path, task, results)
    text = races.page(tmp_path)
    assert "with the whole budget 1: " in text
    assert "Of these RMSprop won 0, was among the best 0, lost 1.\n" in text
    assert f"| {place} |" in text
    assert "not the task's own budget" not in text
    assert "°" not in text


def test_a_demonstration_is_shown_and_not_counted(races, tmp_path, monkeypatch):
    monkeypatch.setattr(races, "DEMONSTRATIONS", ("valley",))
    task = races.get("valley")
    _keep(tmp_path, task, run(task, optimizers=choice.DEFAULT, seeds=3, epochs=3))
    text = races.page(tmp_path)
    assert "with the whole budget 0: " in text
    assert re.search(r"\| \[valley\].* ° \|", text)
    assert "not the task's own budget" not in text


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"optimizers": ("adam", "rmsprop")}, "Adam as the only baseline"),
        ({"optimizers": ("rmsprop",)}, "no baseline"),
        ({"seeds": 2}, ""),
        ({"seeds": 1}, "1 seed instead of 2"),
        ({"grid": (0.1, 1.0)}, "the learning rates 0.1, 1 alone"),
        ({"grid": (0.2,)}, "the learning rates 0.2 instead of its own"),
        ({"epochs": 1}, "1 epoch instead of 3"),
    ],
)
def test_a_race_that_spared_something_is_not_counted_and_says_what(races, tmp_path, asked, said):
    task = races.get("valley")
    whole = {"optimizers": choice.DEFAULT, "seeds": 3, "epochs": 3, "quick": True}
    _keep(tmp_path, task, race(task, Settings.of(task, **{**whole, **asked})))
    text = races.page(tmp_path)
    assert "with the whole budget 0: " in text
    assert "won" not in text[text.index("Tasks measured") : text.index("| task |")]
    assert re.search(r"\| \[valley\].* ° \|", text)
    # Two seeds are what this task's own budget has, and still too few to be counted.
    assert (f"With {said}: not the task's own budget." in text) if said else ("own budget" not in text)


def test_the_command_of_a_race_has_its_threads_and_its_device(races, tmp_path):
    task = races.get("valley")
    task.threads = 2
    results = run(task, optimizers=choice.DEFAULT, seeds=2, epochs=3)
    results.environment["threads"] = "1"
    results.settings = dataclasses.replace(results.settings, device="cuda")
    _keep(tmp_path, task, results)
    text = races.page(tmp_path)
    assert f"    rmsprop race valley --with {','.join(choice.DEFAULT)} --threads 1 --device cuda\n" in text
    assert "With threads: 1 instead of 2: not the task's own budget." in text


def test_trials_of_two_environments_are_both_told(races, tmp_path):
    task = races.get("valley")
    results = run(task)
    results.environment["torch"] = "2.12.0"
    results.ran_in(results.environment | {"torch": "2.13.0", "date": "2999-01-01 00:00 UTC"})
    _keep(tmp_path, task, results)
    text = races.page(tmp_path)
    assert "Trials were added in another environment: torch 2.12.0 before, 2.13.0 now." in text
    assert "torch 2.12.0 and 2.13.0" in text
    assert " to 2999-01-01: " in text


def test_a_page_that_tells_of_more_tasks_is_not_replaced_by_one_of_fewer(races, tmp_path):
    page, one, both = tmp_path / "page.md", tmp_path / "one", tmp_path / "both"
    for folder, named in ((one, ("valley",)), (both, ("valley", "gorge"))):
        for name in named:
            task = races.get(name)
            _keep(folder, task, run(task))
    races.main([str(both), "--to", str(page)])
    whole = page.read_text(encoding="utf-8")
    with pytest.raises(SystemExit, match=r"stays as it is: it also tells of gorge, of which .*one holds no race"):
        races.main([str(one), "--to", str(page)])
    assert page.read_text(encoding="utf-8") == whole
    races.main([str(one), "--to", str(tmp_path / "other.md")])
    races.main([str(one), "--to", str(page), "--drop"])
    assert "Not measured here: gorge." in page.read_text(encoding="utf-8")
    races.main([str(both), "--to", str(page)])
    assert "## gorge" in page.read_text(encoding="utf-8")


def test_a_target_missed_or_reached_is_said(races, tmp_path):
    task = races.get("valley")
    results = _keep(tmp_path, task, run(task, optimizers=("sgd", "rmsprop"), seeds=2, epochs=3))
    ours = next(row for row in rows(task, results) if row.optimizer == "rmsprop")
    for target, word in ((ours.mean * 2, "reached"), (ours.mean / 2, "MISSED")):
        task.metric = dataclasses.replace(task.metric, target=target)
        assert f"{task.metric.text(target)}, {word}" in races.page(tmp_path)


def test_less_than_the_budget_is_said(races, tmp_path):
    task = races.get("valley")
    results = run(task, seeds=2, epochs=1)
    del results.trials[next(key for key in results.trials if key[0] == "final" and key[3] == 1)]
    _keep(tmp_path, task, results)
    said = "With Adam as the only baseline, 1 epoch instead of 3 and a race that was broken off: not the task's own"
    assert f"{said} budget." in races.page(tmp_path)


def test_a_diverged_seed_stands_in_the_table(races, tmp_path):
    task = ValleyTask(poison={1: 3})
    task.name = "valley"
    _keep(tmp_path, task, run(task, optimizers=("adam", "rmsprop"), seeds=3, epochs=3))
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


@pytest.mark.parametrize("page", [DOCS.parent / "README.md", DOCS / "use" / "races.md"])
def test_each_application_of_the_tutorials_has_a_command_that_races_a_task(page):
    text = page.read_text(encoding="utf-8")
    for application in ("image classification", "sentiment analysis", "text generation", "translation", "speech"):
        line = next(line for line in text.splitlines() if line.startswith(f"| {application} |"))
        raced = re.findall(r"`rmsprop race ([a-z-]+)[^`]*`", line)
        assert raced
        assert set(raced) <= set(tasks.names())
    # Who of nine men speaks is no speech recognition.
    line = next(line for line in text.splitlines() if "`rmsprop race speech " in line)
    assert "who of nine speaks" in line
    assert "recognition" not in line


def test_the_table_of_tasks_in_the_docs_names_every_task_and_its_package():
    from rmsprop.race.sources import SOURCES

    text = (DOCS / "use" / "races.md").read_text(encoding="utf-8")
    for name in tasks.names():
        task = tasks.get(name)
        line = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        for need in getattr(task, "needs", ()):
            assert f"`{SOURCES[need].packages[0]}`" in line or name == "finetune", (name, need)
