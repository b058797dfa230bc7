"""`rmsprop race`: every task in turn, missing data, devices, and what a resumed race remembers."""

import io
import itertools
import json
import math

import pytest
from rich.console import Console
from typer.testing import CliRunner

from racing import Placed, ValleyTask, one, pretend
from rmsprop.cli import app
from rmsprop.errors import InputError, StateError
from rmsprop.race import choice, conduct, get, names
from rmsprop.race import task as tasks
from rmsprop.race.conduct import FAILED, INTERRUPTED, Wanted, every
from rmsprop.race.run import Ended


@pytest.fixture(autouse=True)
def valleys(monkeypatch):
    pretend(monkeypatch)


def _tour(tmp_path, *words, **options):
    options.setdefault("optimizers", ("adam", "rmsprop"))
    console = Console(file=io.StringIO(), width=120, color_system=None)
    code = every(Wanted(quick=True, **options), tmp_path, console, names=words)
    return code, console.file.getvalue()


def test_every_task_is_raced_into_its_own_folder_with_an_overview_at_the_end(tmp_path):
    code, text = _tour(tmp_path, "valley", "placed")
    assert code == 0
    for name in ("valley", "placed"):
        assert json.loads((tmp_path / f"{name}-quick" / "results.json").read_text())["complete"] is True
    overview = text[text.index("All tasks") :]
    for name in ("valley", "placed"):
        tree = json.loads((tmp_path / f"{name}-quick" / "results.json").read_text())
        ours = next(line for line in tree["table"] if line["optimizer"] == "rmsprop")
        line = next(line for line in overview.splitlines() if line.split()[:1] == [name])
        assert f"{ours['mean']:.4g}" in line


def test_a_task_without_its_data_is_named_and_left_out(tmp_path):
    code, text = _tour(tmp_path, "absent", "valley")
    assert code == 0
    assert "Left out: absent. the package valley-data is not here" in text
    assert (tmp_path / "valley-quick" / "results.json").exists()


def test_nothing_to_race_is_a_failure(tmp_path):
    assert _tour(tmp_path, "absent")[0] == FAILED


def test_data_that_are_still_missing_after_fetch_are_a_failure(tmp_path):
    assert _tour(tmp_path, "absent", "valley", fetch=True)[0] == FAILED


def test_a_corrupt_file_fails_and_the_others_go_on(tmp_path):
    code, text = _tour(tmp_path, "corrupt", "valley")
    assert code == FAILED
    assert "valley.csv: SHA-256 1, expected 2" in text
    assert (tmp_path / "valley-quick" / "results.json").exists()


def test_whatever_a_task_runs_into_is_told_with_its_kind_and_the_others_go_on(tmp_path):
    code, text = _tour(tmp_path, "broken", "valley")
    assert code == FAILED
    assert "OSError: [Errno 8] Exec format error (rmsprop race broken alone shows where)" in text
    assert "failed or broken off" in text
    assert (tmp_path / "valley-quick" / "results.json").exists()


def test_a_quick_tour_that_is_resumed_begins_the_other_tasks_with_the_few_optimizers_too(tmp_path):
    assert _tour(tmp_path, "valley", optimizers=("adam",))[0] == 0
    assert _tour(tmp_path, "valley", "placed", optimizers=None, resume=True)[0] == 0
    optimizers = [
        json.loads((tmp_path / f"{name}-quick" / "results.json").read_text())["settings"]["optimizers"]
        for name in ("valley", "placed")
    ]
    assert optimizers == [["adam"], list(conduct.QUICK_OPTIMIZERS)]


def test_ctrl_c_ends_the_tour_and_keeps_what_is_done(tmp_path, monkeypatch):
    from rmsprop.race.display import Display

    real, ended = Display.__call__, []

    def listen(self, event):
        real(self, event)
        ended.append(isinstance(event, Ended))
        if sum(ended) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Display, "__call__", listen)
    code, text = _tour(tmp_path, "valley", "placed")
    assert code == INTERRUPTED
    assert text.count("3 finished trials are kept") == 1
    assert not (tmp_path / "placed-quick").exists()
    monkeypatch.setattr(Display, "__call__", real)
    code, text = _tour(tmp_path, "valley", "placed", resume=True)
    assert code == 0
    assert "3 of 10 trials were done before" in text


def test_ctrl_c_while_data_are_read_ends_the_tour_with_its_overview(tmp_path, monkeypatch):
    class Slow(ValleyTask):
        name = "slow"

        def load(self):
            raise KeyboardInterrupt

    monkeypatch.setattr(tasks, "get", lambda name: {"valley": ValleyTask(), "slow": Slow()}[name])
    code, text = _tour(tmp_path, "slow", "valley")
    assert code == INTERRUPTED
    assert "All tasks" in text
    assert not (tmp_path / "valley-quick").exists()


def test_optimizers_of_another_framework_are_left_out_of_a_task_and_said(tmp_path):
    code, text = _tour(tmp_path, "valley", optimizers=("torch-rmsprop", "rmsprop"))
    assert code == 0
    assert "Without torch-rmsprop: not in numpy." in text
    code, text = _tour(tmp_path, "valley", optimizers=("torch-rmsprop",))
    assert code == FAILED
    assert "none of torch-rmsprop runs in numpy" in text


def test_a_numpy_task_has_no_device(tmp_path):
    with pytest.raises(InputError, match="valley runs in NumPy, on the CPU: leave --device cuda to the torch tasks"):
        conduct.one("valley", Wanted(device="cuda"), tmp_path, Console(file=io.StringIO()))


def test_a_tour_uses_the_device_where_a_task_has_one(tmp_path):
    assert _tour(tmp_path, "valley", "placed", device="meta")[0] == 0
    devices = [
        json.loads((tmp_path / f"{name}-quick" / "results.json").read_text())["settings"]["device"]
        for name in ("valley", "placed")
    ]
    assert devices == ["cpu", "meta"]


def test_quick_takes_the_short_data_and_a_resumed_race_remembers_it_and_its_device(tmp_path):
    console = Console(file=io.StringIO())
    wanted = Wanted(optimizers=("rmsprop",), quick=True, device="meta")
    first = conduct.one("placed", wanted, tmp_path, console)
    assert (first.task.short, first.task.device, first.complete) == (True, "meta", True)
    again = conduct.one("placed", Wanted(resume=True), tmp_path, console)
    assert (again.task.short, again.task.device) == (True, "meta")
    assert again.results.trials == first.results.trials


def test_the_threads_asked_for_are_kept_and_a_resumed_race_has_them(tmp_path):
    assert one("placed", tmp_path, threads=3)[0].results.settings.threads == 3
    again, _ = one("placed", tmp_path, resume=True)
    assert (again.task.asked_threads, again.results.settings.threads) == (3, 3)
    with pytest.raises(StateError, match="holds a race with threads=3, this one asks for 2"):
        one("placed", tmp_path, threads=2, resume=True)
    assert one("placed", tmp_path / "other")[0].results.settings.threads is None


def test_a_tour_uses_the_threads_where_a_task_has_them(tmp_path):
    assert _tour(tmp_path, "valley", "placed", threads=2)[0] == 0
    settings = [
        json.loads((tmp_path / f"{name}-quick" / "results.json").read_text())["settings"]
        for name in ("valley", "placed")
    ]
    assert [entry.get("threads") for entry in settings] == [None, 2]


def test_fetch_brings_every_source_that_a_task_needs(tmp_path, monkeypatch):
    brought = []
    monkeypatch.setattr("rmsprop.race.fetch.fetch", lambda name, say: brought.append(name))
    monkeypatch.setattr(tasks, "get", lambda name: Placed(needs=("mnist", "diamonds")))
    conduct.one("placed", Wanted(optimizers=("rmsprop",), quick=True), tmp_path, Console(file=io.StringIO()))
    assert brought == []
    conduct.one(
        "placed", Wanted(optimizers=("rmsprop",), quick=True, fetch=True), tmp_path, Console(file=io.StringIO())
    )
    assert brought == ["mnist", "diamonds"]


def test_the_command_takes_the_tour_and_gives_its_exit_code(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        conduct, "every", lambda wanted, out, console, names: seen.append((wanted, out, names)) or FAILED
    )
    words = ["race", "all", "--quick", "--with", "sgd,adamw", "--device", "cuda", "--fetch"]
    words += ["--threads", "2", "--out", str(tmp_path)]
    assert CliRunner().invoke(app, words).exit_code == FAILED
    wanted, out, named = seen[0]
    assert wanted == Wanted(optimizers=("sgd", "adamw"), device="cuda", threads=2, fetch=True, quick=True)
    assert out == tmp_path
    assert named is None


def test_the_command_takes_several_tasks_and_knows_each(monkeypatch):
    seen = []
    monkeypatch.setattr(conduct, "every", lambda wanted, out, console, names: seen.append(names) or 0)
    for words in ("digits, mnist", "mnist,", "all,", "all,mnist", "mnist,digits,mnist"):
        assert CliRunner().invoke(app, ["race", words]).exit_code == 0
    assert seen == [("digits", "mnist"), ("mnist",), None, None, ("mnist", "digits")]
    for words in ("digits,mnits", "all,mnits", "mnits,all"):
        refused = CliRunner().invoke(app, ["race", words])
        assert refused.exit_code == 2
        assert "unknown task 'mnits': did you mean 'mnist'?" in refused.stderr
    for words in (",", " , "):
        refused = CliRunner().invoke(app, ["race", words])
        assert refused.exit_code == 2
        assert "names no task; one of: digits, " in refused.stderr
    assert len(seen) == 5


def test_every_listed_task_says_where_its_data_come_from_and_under_which_licence():
    from rmsprop.race.sources import SOURCES

    for name in names():
        task = get(name)
        assert task.name == name
        assert task.source
        assert task.license
        assert task.quick.grid
        assert len(task.quick.grid) <= len(task.budget.grid)
        assert list(task.budget.grid) == sorted(task.budget.grid)
        # An even grid: no optimizer's best rate falls into a hole that another's does not.
        steps = [math.log(high / low) for low, high in itertools.pairwise(task.budget.grid)]
        assert max(steps) - min(steps) < math.log(1.3), name
        assert set(getattr(task, "needs", ())) <= set(SOURCES)
        assert all(task.framework in choice.get(optimizer).builds for optimizer in choice.DEFAULT)


def test_the_rates_asked_for_are_the_grid_and_a_resumed_race_remembers_them(tmp_path):
    console = Console(file=io.StringIO())
    found = conduct.one("valley", Wanted(optimizers=("adam",), rates=conduct.rates("1, 0.3,0.3")), tmp_path, console)
    assert found.results.settings.grid == (0.3, 1.0)
    assert {trial.job.lr for trial in found.results.trials.values()} <= {0.3, 1.0}
    again = conduct.one("valley", Wanted(optimizers=("sgd",), resume=True), tmp_path, console)
    assert again.results.settings.grid == (0.3, 1.0)
    with pytest.raises(StateError, match="grid"):
        conduct.one("valley", Wanted(rates=(0.5,), resume=True), tmp_path, console)


@pytest.mark.parametrize("words", ["", " , ", "0.1,fast", "0", "-1", "nan", "inf"])
def test_rates_that_are_none_are_refused(words):
    with pytest.raises(InputError, match="--rates"):
        conduct.rates(words)


def test_a_quick_race_leaves_the_results_of_a_full_one_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    full = tmp_path / "runs" / "valley" / "results.json"
    for wanted in (Wanted(optimizers=("rmsprop",)), Wanted(optimizers=("adam",), quick=True, resume=True)):
        conduct.one("valley", wanted, None, Console(file=io.StringIO()))
        assert json.loads(full.read_text())["settings"]["optimizers"] == ["rmsprop"]
    assert (tmp_path / "runs" / "valley-quick" / "results.json").exists()
