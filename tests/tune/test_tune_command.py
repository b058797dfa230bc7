"""`rmsprop tune`: pictures, code that runs, going on, and what it refuses."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from rmsprop.cli import app
from rmsprop.race import task as tasks
from rmsprop.rule import Rule
from rmsprop.tune import Setting
from rmsprop.tune._task import TaskObjective, space_of, stepper, tune_task
from small_tasks import ValleyTask

optuna = pytest.importorskip("optuna")
pytest.importorskip("matplotlib")


def call(*line):
    return CliRunner(env={"COLUMNS": "160", "NO_COLOR": "1"}).invoke(app, ["tune", *map(str, line)])


@pytest.fixture
def valley(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    task = ValleyTask(poison={})
    monkeypatch.setattr(tasks, "get", lambda name: task)
    return task


def test_the_command_draws_says_and_writes_the_best_as_code_that_runs(valley, tmp_path):
    # In memory would do, but the file by default is part of the promise.
    result = call("valley", "--trials", 24)
    assert result.exit_code == 0, result.output
    out = tmp_path / "runs" / "valley-tune"
    assert (out / "map.png").read_bytes().startswith(b"\x89PNG")
    code = (out / "best.py").read_text()
    assert code.strip() in result.output
    names = {}
    exec(code, names)
    study = optuna.load_study(study_name="valley", storage=f"sqlite:///{tmp_path}/runs/tune.db")
    best = space_of(valley).setting(study.best_trial.params)
    assert (names["optimizer"].lr, names["optimizer"].rule) == (best.lr, best.rule)
    # The value is the one that this optimizer reaches when it trains again.
    objective = TaskObjective(valley, valley.load(), epochs=valley.budget.epochs, seeds=(1000,))
    assert objective(Setting(lr=best.lr, rule=best.rule)) == study.best_value
    assert f"Best, trial {study.best_trial.number}: validation distance" in result.output
    again = call("valley", "--trials", 24)
    assert "Study valley has 24 trials already: --trials 48 adds more." in again.output


def test_the_command_says_that_it_goes_on_and_ctrl_c_keeps_the_finished_trials(valley, monkeypatch):
    learner, calls = ValleyTask.learner, []

    def interrupted(self, data, seed):
        calls.append(seed)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return learner(self, data, seed)

    monkeypatch.setattr(ValleyTask, "learner", interrupted)
    first = call("valley", "--trials", 5)
    assert first.exit_code == 130
    assert "Broken off: 3 finished trials are kept; the same command goes on." in first.output
    second = call("valley", "--trials", 5)
    assert second.exit_code == 0, second.output
    assert "Going on: study valley has 3 trials." in second.output


def test_a_loss_that_is_no_number_is_said_with_its_step_and_tensor(valley):
    valley._poison = {1000: 3}
    result = call("valley", "--trials", 2)
    assert result.exit_code == 2
    assert "diverged, the loss is not finite at step 3, first in the gradient of w" in result.output
    assert "not finite in any of 2 trials" in result.stderr


def test_a_real_ctrl_c_on_real_workers_leaves_a_study_that_goes_on(tmp_path):
    script = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "if __name__ == '__main__':\n"
        "    from rmsprop.cli import main; main()\n"
    )
    file = tmp_path / "run.py"
    file.write_text(script)
    line = [sys.executable, str(file), "tune", "digits", "--trials", "400", "--workers", "2", "--quick"]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path)
    url, end = f"sqlite:///{tmp_path}/runs/tune.db", time.monotonic() + 120

    def finished():
        if not (tmp_path / "runs" / "tune.db").exists():
            return 0
        try:
            study = optuna.load_study(study_name="digits-quick", storage=url)
        except (KeyError, optuna.exceptions.StorageInternalError):
            return 0
        except Exception:  # the tables are being made
            return 0
        return len(study.get_trials(states=(optuna.trial.TrialState.COMPLETE,)))

    while finished() < 2 and time.monotonic() < end:
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 130, output
    assert "the same command goes on" in output
    states = {trial.state.name for trial in optuna.load_study(study_name="digits-quick", storage=url).trials}
    assert "RUNNING" not in states
    assert "COMPLETE" in states


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (["digts"], "unknown task 'digts': did you mean 'digits'?"),
        (["digits", "--trials", "0"], "trials=0, expected a whole number, at least 1"),
        (["digits", "--workers", "0"], "workers=0, expected a whole number, at least 1"),
        (["digits", "--storage", "tune.db"], "storage='tune.db', expected a URL"),
        (["digits", "--pruner", "often"], "pruner='often', expected 'median', 'none'"),
        (["digits", "--device", "cuda"], "device='cuda': digits runs in NumPy"),
    ],
)
def test_what_the_command_refuses_is_one_line_that_says_what_to_do(line, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = call(*line)
    assert result.exit_code == 2
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1


def test_without_optuna_the_command_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "optuna", None)
    result = call("digits")
    assert result.exit_code == 2
    assert 'pip install "rmsprop[tune]"' in result.stderr


def test_a_study_of_other_epochs_is_not_gone_on_with(valley, tmp_path):
    assert call("valley", "--trials", 1).exit_code == 0
    valley.budget = type(valley).budget.__class__(epochs=9, seeds=2, tuning_seeds=1, grid=(0.01, 0.1, 1.0))
    result = call("valley", "--trials", 2)
    assert result.exit_code == 2
    assert "study 'valley' has epochs=3, this one asks for 9" in result.stderr


def test_every_trial_trains_from_the_same_seeds(valley):
    seeds = []
    learner = valley.learner
    valley.learner = lambda data, seed: seeds.append(seed) or learner(data, seed)
    tune_task(valley, trials=3, study="x", storage=None)
    assert seeds == [1000] * 3


def test_a_torch_setting_updates_tensors_by_its_rule():
    torch = pytest.importorskip("torch")
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    weight.grad = torch.tensor([0.5])
    rule = Rule(rho=0.75, eps=0.0, eps_mode="outside", momentum=0.9, buffer="unit")
    step = stepper("torch", [weight], setting=Setting(lr=0.1, rule=rule))
    step(None)
    # mean_sq = 0.25 x 0.25, so g / sqrt(mean_sq) = 2, and the buffer begins with it.
    assert weight.item() == pytest.approx(1.0 - 0.1 * 2.0)


def test_json_of_a_study_names_no_machine(valley, tmp_path):
    import platform

    assert call("valley", "--trials", 1).exit_code == 0
    study = optuna.load_study(study_name="valley", storage=f"sqlite:///{tmp_path}/runs/tune.db")
    kept = json.dumps([study.user_attrs, study.trials[0].user_attrs, study.trials[0].system_attrs])
    assert len(platform.node()) > 0
    assert platform.node() not in kept
    assert str(os.getpid()) in kept
