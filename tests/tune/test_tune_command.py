"""`rmsprop tune`: pictures, a program that runs, continuing, and errors."""

import errno
import os
import sys

import pytest
from typer.testing import CliRunner

from rmsprop.cli import app
from rmsprop.rule import Rule
from rmsprop.tune import Setting
from rmsprop.tune._task import TaskObjective, build_space, build_step, tune_task
from small_tasks import ValleyTask

optuna = pytest.importorskip("optuna")
pytest.importorskip("matplotlib")


def call(*line):
    return CliRunner(env={"COLUMNS": "160", "NO_COLOR": "1"}).invoke(app, ["tune", *map(str, line)])


@pytest.mark.slow
def test_the_command_writes_pictures_and_the_best_setting_as_a_program_that_runs(valley, tmp_path):
    result = call("valley", "--trials", 24, "--pruner", "none")
    assert result.exit_code == 0, result.output
    out = tmp_path / "runs" / "valley-tune"
    for picture in ("map.png", "importance.png"):
        assert (out / picture).read_bytes().startswith(b"\x89PNG")
    code = (out / "best.py").read_text()
    assert code.strip() in result.output
    names = {}
    exec(code, names)
    study = optuna.load_study(study_name="valley", storage=f"sqlite:///{tmp_path}/runs/tune.db")
    best = build_space(valley).make_setting(study.best_trial.params)
    assert (names["optimizer"].lr, names["optimizer"].rule) == (best.lr, best.rule)
    # The optimizer reaches the same value when it trains again.
    objective = TaskObjective(valley, valley.load(), epochs=valley.budget.epochs, seeds=(1000,))
    assert objective(Setting(lr=best.lr, rule=best.rule)) == study.best_value
    assert f"Best, trial {study.best_trial.number}: validation distance" in result.output
    assert "What mattered: " in result.output
    again = call("valley", "--trials", 24)
    assert "Study valley has 24 trials already: --trials 48 adds more." in again.output


def test_ctrl_c_keeps_the_finished_trials_and_the_same_command_continues(valley, monkeypatch):
    learner, calls = ValleyTask.learner, []

    def interrupt(self, data, seed):
        calls.append(seed)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return learner(self, data, seed)

    monkeypatch.setattr(ValleyTask, "learner", interrupt)
    first = call("valley", "--trials", 5)
    assert first.exit_code == 130
    assert "Interrupted: 3 finished trials are kept; the same command continues." in first.output
    second = call("valley", "--trials", 5)
    assert second.exit_code == 0, second.output
    assert "Continuing study valley, which has 3 trials." in second.output
    assert "5 trials: " in second.output
    # Every trial trains from the same seed.
    assert set(calls) == {1000}


def test_before_a_trial_is_complete_there_is_no_best_setting(valley, monkeypatch):
    def interrupt(self, data, seed):
        raise KeyboardInterrupt

    monkeypatch.setattr(ValleyTask, "learner", interrupt)
    assert "No trial is complete yet." in call("valley").output


def test_a_diverged_trial_is_printed_with_its_step_and_tensor(valley):
    valley._poison = {1000: 3}
    result = call("valley", "--trials", 2)
    assert result.exit_code == 2
    assert "diverged, the loss is not finite at step 3, first in the gradient of w" in result.output
    assert "not finite in any of 2 trials" in result.stderr


def test_a_study_with_other_epochs_is_not_continued(valley):
    assert call("valley", "--trials", 1).exit_code == 0
    valley.budget = type(valley.budget)(epochs=9, seeds=2, tuning_seeds=1, grid=(0.01, 0.1, 1.0))
    result = call("valley", "--trials", 2)
    assert result.exit_code == 2
    assert "study 'valley' has epochs=3, this search has epochs=9" in result.stderr


def test_a_full_disk_is_reported_with_what_to_do(valley, monkeypatch):
    def fail(*paths):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    result = call("valley", "--trials", 1)
    assert result.exit_code == 2
    assert "map.png: No space left on device: the trials are kept, run the same command again" in result.stderr
    assert "--resume" not in result.stderr


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (["digts"], "unknown task 'digts': did you mean 'digits'?"),
        (["digits", "--trials", "0"], "trials=0, expected an integer, at least 1"),
        (["digits", "--workers", "0"], "workers=0, expected an integer, at least 1"),
        (["digits", "--storage", "tune.db"], "storage='tune.db', expected a URL"),
        (["digits", "--pruner", "often"], "pruner='often', expected 'median', 'none'"),
        (["digits", "--device", "cuda"], "device='cuda': digits runs in NumPy"),
        (["digits", "--study", "../x"], "study='../x' is not the name of a folder in runs: add --out"),
        (["digits", "--study", "/tmp/x"], "study='/tmp/x' is not the name of a folder in runs: add --out"),
    ],
)
def test_a_bad_option_is_an_error_of_one_line(line, reason, tmp_path, monkeypatch):
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    result = call(*line)
    assert result.exit_code == 2
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == [folder]


def test_a_study_may_have_any_name_beside_a_folder_of_its_own(valley, tmp_path):
    result = call("valley", "--study", "team/valley", "--trials", 1, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "best.py").exists()


def test_without_optuna_the_command_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "optuna", None)
    result = call("digits")
    assert result.exit_code == 2
    assert 'pip install "rmsprop[tune]"' in result.stderr


@pytest.mark.slow
def test_a_torch_task_is_searched_around_torchs_own_rule():
    torch = pytest.importorskip("torch")
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    weight.grad = torch.tensor([0.5])
    rule = Rule(rho=0.75, eps=0.0, eps_mode="outside", momentum=0.9, buffer="unit")
    build_step("torch", [weight], setting=Setting(lr=0.1, rule=rule))(None)
    # mean_sq = 0.25 * 0.25, so g / sqrt(mean_sq) = 2, with which the buffer starts.
    assert weight.item() == pytest.approx(1.0 - 0.1 * 2.0)
    task = ValleyTask()
    task.framework = "torch"
    assert build_space(task).base.eps_mode == "outside"


def test_a_median_pruner_waits_for_a_third_of_the_epochs(valley):
    valley.budget = type(valley.budget)(epochs=9, seeds=2, tuning_seeds=1, grid=(0.01, 0.1, 1.0))
    result = tune_task(valley, trials=20, study="x", storage=None)
    pruned = [trial for trial in result.study.trials if trial.state == optuna.trial.TrialState.PRUNED]
    assert pruned
    assert min(trial.last_step for trial in pruned) >= 3
