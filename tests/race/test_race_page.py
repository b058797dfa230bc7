"""docs/races.py: the page about which optimizer learns best, written from results alone."""

import dataclasses
import importlib.util
import re
from pathlib import Path

import pytest

from rmsprop.errors import FileError
from rmsprop.race import Folder, Settings, choice, race
from rmsprop.race import task as tasks
from rmsprop.race.report import render_json
from rmsprop.race.verdict import describe_verdict, find_rmsprop, make_table
from small_tasks import ValleyTask, run_race

DOCS = Path(__file__).parents[2] / "docs"
USE = DOCS / "use" / "races.md"
FULL = {"optimizers": choice.DEFAULT, "seeds": 3, "epochs": 3}


@pytest.fixture
def script(monkeypatch):
    """docs/races.py as a module that knows two tasks, valley and gorge."""
    spec = importlib.util.spec_from_file_location("docs_races", DOCS / "races.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    known = {name: ValleyTask() for name in ("valley", "gorge")}
    for name, task in known.items():
        task.name = name
    monkeypatch.setattr(module, "names", lambda: tuple(known))
    monkeypatch.setattr(module, "get", known.__getitem__)
    return module


@pytest.fixture
def valley(script):
    return script.get("valley")


@pytest.fixture
def write_page(script, valley, tmp_path):
    """Return a function: the page of a benchmark of `valley`."""

    def write(results):
        save(tmp_path, valley, results)
        return script.write_page(tmp_path)

    return write


def save(folder, task, results):
    Folder(folder / task.name).write(Folder.results_name, render_json(task, results))


def test_the_page_has_all_optimizers_the_verdict_and_where_it_was_measured(write_page, valley):
    results = run_race(valley, optimizers=("sgd", "adam", "rmsprop"), seeds=3, epochs=3)
    text = write_page(results)
    table = make_table(valley, results)
    assert f"**{describe_verdict(table, valley.metric)}**" in text
    for row in table:
        assert row.text(valley.metric) in text
        assert f"| {row.label} |" in text or f"| **{row.label}** |" in text
    assert "Not measured here: gorge." in text
    assert results.environment["date"][:10] in text
    assert results.environment["python"] in text


def test_a_loss_with_the_full_budget_is_counted(write_page, valley):
    results = run_race(valley, **FULL)
    for key, trial in results.trials.items():
        if key[:2] == ("final", "rmsprop"):
            score = tuple(score + 9 for score in trial.score)
            results.trials[key] = dataclasses.replace(trial, score=score)
    text = write_page(results)
    assert "with the full budget 1: " in text
    assert "Of these RMSprop won 0, was not significantly different from the best in 0, lost 1.\n" in text
    assert "| lost to 4 of 4 |" in text
    assert "not the task's own budget" not in text
    assert "°" not in text


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"optimizers": ("adam", "rmsprop")}, "Adam as the only baseline"),
        ({"optimizers": ("sgd", "adam", "rmsprop")}, "Gradient descent and Adam as the only baselines"),
        ({"optimizers": ("rmsprop",)}, "no baseline"),
        ({"seeds": 2}, ""),
        ({"seeds": 1}, "1 seed instead of 2"),
        ({"grid": (0.1, 1.0)}, "the learning rates 0.1, 1 alone"),
        ({"grid": (0.2,)}, "the learning rates 0.2 instead of its own"),
        ({"epochs": 1}, "1 epoch instead of 3"),
    ],
)
def test_a_benchmark_with_less_than_the_budget_is_not_counted_and_says_what_was_less(write_page, valley, options, text):
    page = write_page(race(valley, Settings.of(valley, quick=True, **{**FULL, **options})))
    assert "with the full budget 0: " in page
    assert "None is counted. Those marked ° spent less and are not counted." in page.replace("\n", " ")
    assert re.search(r"\| \[valley\].* ° \|", page)
    # Two seeds are this task's own budget, but too few to be counted.
    assert (f"With {text}: not the task's own budget." in page) if text else ("own budget" not in page)


def test_missing_trials_are_reported(write_page, valley):
    results = run_race(valley, seeds=2, epochs=1)
    del results.trials[next(key for key in results.trials if key[0] == "final" and key[3] == 1)]
    text = "With Adam as the only baseline, 1 epoch instead of 3 and some trials missing: not the task's own budget."
    assert text in write_page(results)


def test_the_command_of_a_benchmark_has_its_threads_and_its_device(write_page, valley):
    valley.threads = 2
    results = run_race(valley, optimizers=choice.DEFAULT, epochs=3)
    results.environment["threads"] = "1"
    results.settings = dataclasses.replace(results.settings, device="cuda")
    text = write_page(results)
    assert f"    rmsprop race valley --with {','.join(choice.DEFAULT)} --threads 1 --device cuda\n" in text
    assert "With threads: 1 instead of 2: not the task's own budget." in text


def test_trials_of_two_environments_are_reported(write_page, valley):
    results = run_race(valley)
    results.environment["torch"] = "2.12.0"
    results.later.append(results.environment | {"torch": "2.13.0", "date": "2999-01-01 00:00 UTC"})
    text = write_page(results)
    assert "Trials were added in another environment: torch 2.12.0 before, 2.13.0 now." in text
    assert "torch 2.12.0 and 2.13.0" in text
    assert " to 2999-01-01: " in text


def test_the_target_is_reached_or_missed(write_page, valley):
    results = run_race(valley, epochs=3)
    mean = find_rmsprop(make_table(valley, results)).mean
    for target, word in ((mean * 2, "reached"), (mean / 2, "MISSED")):
        valley.metric = dataclasses.replace(valley.metric, target=target)
        assert f"{valley.metric.text(target)}, {word}" in write_page(results)


def test_diverged_seeds_and_samples_are_on_the_page(write_page, valley):
    valley._poison = {1: 3}
    results = run_race(valley, seeds=3, epochs=3)
    results.sample = "And it came\nto pass"
    text = write_page(results)
    assert "| 1 of 3 |" in text
    assert "    And it came\n    to pass\n" in text


def test_a_page_is_not_replaced_by_one_with_fewer_tasks(script, tmp_path):
    page, fewer, all_tasks = tmp_path / "page.md", tmp_path / "fewer", tmp_path / "all"
    for folder, names in ((fewer, ("valley",)), (all_tasks, ("valley", "gorge"))):
        for name in names:
            save(folder, script.get(name), run_race(script.get(name)))
    script.main([str(all_tasks), "--to", str(page)])
    before = page.read_text(encoding="utf-8")
    with pytest.raises(SystemExit, match=r"is unchanged: it has sections about gorge, and .*fewer has no results"):
        script.main([str(fewer), "--to", str(page)])
    assert page.read_text(encoding="utf-8") == before
    script.main([str(fewer), "--to", str(page), "--drop"])
    assert "Not measured here: gorge." in page.read_text(encoding="utf-8")
    script.main([str(all_tasks), "--to", str(page)])
    assert "## gorge" in page.read_text(encoding="utf-8")


def test_without_results_the_page_says_so(script, tmp_path):
    assert "Not measured here: valley, gorge." in script.write_page(tmp_path)


def test_corrupt_results_raise(script, tmp_path):
    Folder(tmp_path / "valley").write(Folder.results_name, "{")
    with pytest.raises(FileError, match="not the results of a benchmark"):
        script.write_page(tmp_path)


def test_each_application_has_a_command_that_benchmarks_a_task():
    lines = USE.read_text(encoding="utf-8").splitlines()
    for application in ("image classification", "sentiment analysis", "text generation", "translation", "speech"):
        line = next(line for line in lines if line.startswith(f"| {application} |"))
        found = re.findall(r"`rmsprop race ([a-z-]+)[^`]*`", line)
        assert found
        assert set(found) <= set(tasks.names())
    # The task identifies the speaker; it is not speech recognition.
    line = next(line for line in lines if "`rmsprop race speech " in line)
    assert "who of nine speaks" in line
    assert "recognition" not in line


def test_the_table_of_tasks_names_all_tasks_and_their_packages():
    from rmsprop.race.sources import SOURCES

    lines = USE.read_text(encoding="utf-8").splitlines()
    for name in tasks.names():
        line = next(line for line in lines if line.startswith(f"| `{name}` |"))
        for need in tasks.get(name).needs:
            assert f"`{SOURCES[need].packages[0]}`" in line or name == "finetune", (name, need)
