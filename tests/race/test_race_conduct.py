"""`rmsprop race`: several tasks in turn, missing data, devices, and what a resumed benchmark continues with."""

import io
import itertools
import json
import math

import pytest
from rich.console import Console
from typer.testing import CliRunner

from rmsprop.cli import app
from rmsprop.errors import InputError, StateError
from rmsprop.race import choice, conduct, get, names
from rmsprop.race.conduct import FAILED, INTERRUPTED, RaceOptions
from rmsprop.race.display import Display
from rmsprop.race.record import Trial
from small_tasks import DeviceTask, run_command

pytestmark = pytest.mark.usefixtures("command_tasks")


def run_several(folder, *names, **options):
    """Race tasks quickly; return the exit code and what was printed."""
    options.setdefault("optimizers", ("adam", "rmsprop"))
    console = Console(file=io.StringIO(), width=120, color_system=None)
    code = conduct.run_tasks(RaceOptions(quick=True, **options), folder, console, names=names)
    return code, console.file.getvalue()


def load(folder, name):
    return json.loads((folder / f"{name}-quick" / "results.json").read_text())


def test_each_task_has_its_own_folder_and_a_line_of_the_overview(tmp_path):
    code, text = run_several(tmp_path, "valley", "device")
    assert code == 0
    overview = text[text.index("All tasks") :].splitlines()
    for name in ("valley", "device"):
        document = load(tmp_path, name)
        assert document["complete"] is True
        mean = next(row["mean"] for row in document["table"] if row["optimizer"] == "rmsprop")
        assert f"{mean:.4g}" in next(line for line in overview if line.split()[:1] == [name])


@pytest.mark.parametrize(
    ("names", "options", "code", "text"),
    [
        (("absent", "valley"), {}, 0, "Skipped: absent. the package valley-data is missing"),
        (("absent",), {}, FAILED, "skipped"),
        (("absent", "valley"), {"fetch": True}, FAILED, "Skipped: absent."),
        (("corrupt", "valley"), {}, FAILED, "valley.csv: SHA-256 1, expected 2"),
        (("broken", "valley"), {}, FAILED, "OSError: [Errno 8] Exec format error (for the traceback: rmsprop"),
        (("slow", "valley"), {}, INTERRUPTED, "slow-quick can be resumed."),
        (("valley",), {"optimizers": ("torch-rmsprop", "rmsprop")}, 0, "Without torch-rmsprop: not in numpy."),
        (("valley",), {"optimizers": ("torch-rmsprop",)}, FAILED, "none of torch-rmsprop runs in numpy"),
    ],
)  # fmt: skip
def test_a_task_that_cannot_run_is_explained_and_the_others_run(tmp_path, names, options, code, text):
    found, printed = run_several(tmp_path, *names, **options)
    assert found == code
    assert text in printed
    assert "All tasks" in printed
    is_run = "valley" in names and code != INTERRUPTED and options.get("optimizers") != ("torch-rmsprop",)
    assert (tmp_path / "valley-quick" / "results.json").exists() == is_run


def test_resumed_quick_benchmarks_start_missing_tasks_with_the_few_optimizers(tmp_path):
    assert run_several(tmp_path, "valley", optimizers=("adam",))[0] == 0
    assert run_several(tmp_path, "valley", "device", optimizers=None, resume=True)[0] == 0
    optimizers = [load(tmp_path, name)["settings"]["optimizers"] for name in ("valley", "device")]
    assert optimizers == [["adam"], list(conduct.QUICK_OPTIMIZERS)]


def test_ctrl_c_ends_all_tasks_and_keeps_the_finished_trials(tmp_path, monkeypatch):
    listen, events = Display.__call__, []

    def interrupt(self, event):
        listen(self, event)
        events.append(isinstance(event, Trial))
        if sum(events) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Display, "__call__", interrupt)
    code, text = run_several(tmp_path, "valley", "device")
    assert code == INTERRUPTED
    assert "Interrupted: 3 finished trials are in" in text
    assert not (tmp_path / "device-quick").exists()
    monkeypatch.setattr(Display, "__call__", listen)
    code, text = run_several(tmp_path, "valley", "device", resume=True)
    assert code == 0
    assert "Resuming: 3 of 10 trials were done before." in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cuda"}, "valley runs in NumPy, on the CPU: --device cuda is for torch tasks"),
        ({"threads": 2}, "valley runs in NumPy, on one thread: --threads is for torch tasks"),
    ],
)
def test_a_numpy_task_has_no_device_and_no_threads(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        run_command("valley", tmp_path, **options)


@pytest.mark.parametrize(
    ("options", "values"), [({"device": "meta"}, ["cpu", "meta"]), ({"threads": 2}, [None, 2])], ids=str
)
def test_of_several_tasks_those_that_have_them_use_the_device_and_the_threads(tmp_path, options, values):
    assert run_several(tmp_path, "valley", "device", **options)[0] == 0
    (name,) = options
    assert [load(tmp_path, task)["settings"].get(name) for task in ("valley", "device")] == values


def test_a_resumed_benchmark_keeps_its_device_length_threads_and_rates(tmp_path):
    options = {"quick": True, "device": "meta", "threads": 3, "rates": (0.3, 1.0)}
    first, _ = run_command("device", tmp_path, **options)
    again, _ = run_command("device", tmp_path, resume=True)
    for outcome in (first, again):
        assert outcome.status == "complete"
        assert (outcome.task.short, outcome.task.device, outcome.task.asked_threads) == (True, "meta", 3)
        assert outcome.results.settings.grid == (0.3, 1.0)
    assert again.results.trials == first.results.trials


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threads": 2}, "holds a benchmark with threads=None, but threads=2 was asked for"),
        (
            {"device": "meta"},
            "holds a benchmark with device=cpu, but device=meta was asked for: resume it with the same",
        ),
        ({"quick": True}, "holds a benchmark with short=False, but short=True was asked for"),
        ({"rates": (0.5,)}, r"holds a benchmark with grid=\(0.01, 0.1, 1.0\), but grid=\(0.5,\) was asked for"),
    ],
)
def test_a_benchmark_is_not_resumed_with_other_settings(tmp_path, options, message):
    run_command("device", tmp_path)
    with pytest.raises(StateError, match=message):
        run_command("device", tmp_path, resume=True, **options)


@pytest.mark.parametrize("text", ["", " , ", "0.1,fast", "0", "-1", "nan", "inf"])
def test_rates_that_are_not_positive_numbers_raise(text):
    with pytest.raises(InputError, match="--rates"):
        conduct.parse_rates(text)


def test_fetch_downloads_all_sources_that_a_task_needs(tmp_path, command_tasks, monkeypatch):
    fetched = []
    monkeypatch.setattr("rmsprop.race.fetch.fetch", lambda name, say: fetched.append(name))
    command_tasks["device"] = DeviceTask(needs=("mnist", "diamonds"))
    run_command("device", tmp_path)
    assert fetched == []
    run_command("device", tmp_path, fetch=True)
    assert fetched == ["mnist", "diamonds"]


def test_a_quick_benchmark_leaves_the_results_of_a_full_one_unchanged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    full = tmp_path / "runs" / "valley" / "results.json"
    run_command("valley", None)
    before = full.read_bytes()
    _, text = run_command("valley", None, quick=True, resume=True)
    assert "Nothing to resume in runs/valley-quick: a new benchmark begins." in text
    assert full.read_bytes() == before
    assert (tmp_path / "runs" / "valley-quick" / "results.json").exists()


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("all", None),
        ("all,mnist", None),
        ("digits, mnist", ("digits", "mnist")),
        ("mnist,", ("mnist",)),
        ("mnist,digits,mnist", ("mnist", "digits")),
    ],
)
def test_the_command_runs_several_tasks_and_returns_their_exit_code(tmp_path, monkeypatch, words, names):
    calls = []
    monkeypatch.setattr(conduct, "run_tasks", lambda *args, **names: calls.append((*args, names)) or FAILED)
    arguments = ["race", words, "--quick", "--with", "sgd,adamw", "--rates", "1,0.1", "--device", "cuda", "--fetch"]
    arguments += ["--threads", "2", "--out", str(tmp_path)]
    assert CliRunner().invoke(app, arguments).exit_code == FAILED
    options, out, _, found = calls[0]
    assert options == RaceOptions(
        optimizers=("sgd", "adamw"), rates=(0.1, 1.0), device="cuda", threads=2, fetch=True, quick=True
    )
    assert (out, found) == (tmp_path, {"names": names})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["digits,mnits"], "unknown task 'mnits': did you mean 'mnist'?"),
        (["all,mnits"], "unknown task 'mnits': did you mean 'mnist'?"),
        ([" , "], "names no task; one of: digits, "),
        ([], "which task? one of: digits, "),
        (["digits", "--with", ","], "--with names no optimizer"),
    ],
)
def test_the_command_refuses_unknown_names(words, message):
    result = CliRunner().invoke(app, ["race", *words])
    assert result.exit_code == 2
    assert message in result.stderr


def test_the_command_lists_tasks_and_optimizers():
    output = CliRunner().invoke(app, ["race", "--list"]).output
    for name in (*names(), *choice.names()):
        assert f"  {name} " in output


@pytest.mark.parametrize("name", names())
def test_each_listed_task_has_a_source_a_license_and_an_even_grid(name):
    from rmsprop.race.sources import SOURCES

    task = get(name)
    assert task.name == name
    assert task.source
    assert task.license
    assert 0 < len(task.quick.grid) <= len(task.budget.grid)
    assert list(task.budget.grid) == sorted(task.budget.grid)
    # An uneven grid would favor the optimizers whose best rates are where it is dense.
    steps = [math.log(high / low) for low, high in itertools.pairwise(task.budget.grid)]
    assert max(steps) - min(steps) < math.log(1.3)
    assert set(task.needs) <= set(SOURCES)
    assert all(task.framework in choice.get(optimizer).builds for optimizer in choice.DEFAULT)
