"""Tuning without a leak, equal budgets, timing, interrupting and resuming, diverging."""

import dataclasses
import math
import platform
import time

import numpy as np
import pytest

from rmsprop.errors import InputError, StateError
from rmsprop.race import Results, Settings, choice, get
from rmsprop.race.record import Diverged, Job, Trial
from rmsprop.race.run import RaceStarted, choose_rate, is_complete
from rmsprop.race.trial import Progress, train
from small_tasks import ValleyTask, collect_curves, run_race


class WrappedTask(ValleyTask):
    """A task that calls `before(learner, method, argument)` before each call of one of its learners' methods."""

    def __init__(self, method, before):
        super().__init__()
        self._method, self._before = method, before

    def learner(self, data, seed):
        learner = super().learner(data, seed)
        call = getattr(learner, self._method)
        setattr(learner, self._method, lambda argument: (self._before(learner, argument), call(argument))[1])
        return learner


def copy_results(results):
    return Results.from_json(results.to_json({}), where="memory")


def test_every_optimizer_gets_the_same_trials():
    results = run_race(ValleyTask(), optimizers=("sgd", "adam", "rmsprop"), seeds=3)
    for optimizer in results.settings.optimizers:
        keys = [key for key in results.trials if key[1] == optimizer]
        assert {(lr, seed) for phase, _, lr, seed in keys if phase == "tuning"} == {
            (lr, 1000) for lr in (0.01, 0.1, 1.0)
        }
        assert {seed for phase, _, _, seed in keys if phase == "final"} == {0, 1, 2}
    assert len({trial.steps for trial in results.trials.values()}) == 1


def test_within_a_seed_all_optimizers_start_from_the_same_score():
    optimizers = tuple(name for name in choice.names() if "numpy" in choice.get(name).builds)
    trials = run_race(ValleyTask(), optimizers=optimizers, seeds=2).trials
    starts = {(key[3], trial.score[0]) for key, trial in trials.items() if key[0] == "final"}
    assert len(starts) == 2


def test_tuning_scores_the_validation_examples_and_final_trials_the_test_examples():
    calls = set()
    run_race(WrappedTask("score", lambda learner, split: calls.add((learner.seed >= 1000, split))))
    assert calls == {(True, "valid"), (False, "test")}


def test_the_test_labels_have_no_part_in_the_choice_of_a_rate():
    pytest.importorskip("sklearn")
    task = get("digits")
    data = task.load()
    test = data.content["test"]
    permuted = data.content | {"test": test._replace(labels=np.random.default_rng(0).permutation(test.labels))}

    @dataclasses.dataclass(frozen=True)
    class PermutedDigits(type(task)):
        def load(self):
            return dataclasses.replace(data, content=permuted)

    first, second = (
        run_race(t, optimizers=("rmsprop",), seeds=1, epochs=1) for t in (task, PermutedDigits(**vars(task)))
    )
    tuning = [
        {key: curve for key, curve in collect_curves(results).items() if key[0] == "tuning"}
        for results in (first, second)
    ]
    assert tuning[0] == tuning[1]
    final = ("final", "rmsprop", choose_rate(task, first, "rmsprop"), 0)
    assert first.trials[final].train_loss == second.trials[final].train_loss
    assert first.trials[final].score != second.trials[final].score


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": (0, 1000)}, "expected no common seed"),
        ({"seeds": ()}, "expected at least one optimizer, one seed"),
        ({"epochs": 0}, "epochs=0, expected at least 1"),
    ],
)
def test_settings_outside_their_domain_raise(changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(Settings.of(ValleyTask()), **changes)
    for seeds in (0, 1001):
        with pytest.raises(InputError, match=f"seeds={seeds}, expected 1 to 1000"):
            Settings.of(ValleyTask(), seeds=seeds)


def test_the_chosen_rate_has_the_best_validation_score_and_did_not_diverge():
    task = ValleyTask()
    results = run_race(task, optimizers=("sgd",), epochs=3)
    # On 0.5 |w - target|^2 gradient descent with lr 1 arrives in one step.
    assert choose_rate(task, results, "sgd") == 1.0
    key = ("tuning", "sgd", 1.0, 1000)
    results.trials[key] = dataclasses.replace(results.trials[key], diverged=Diverged(step=9, tensor="w"))
    assert choose_rate(task, results, "sgd") == 0.1
    del results.trials[key]
    assert choose_rate(task, results, "sgd") is None
    assert not is_complete(task, results)


def test_a_loss_that_is_not_finite_ends_the_trial_and_names_the_tensor():
    task = ValleyTask(poison={0: 7})
    results = run_race(task, optimizers=("rmsprop",), seeds=2, epochs=3)
    lr = choose_rate(task, results, "rmsprop")
    trial = results.trials["final", "rmsprop", lr, 0]
    assert trial.diverged == Diverged(step=7, tensor="the gradient of w")
    assert (trial.steps, len(trial.score), len(trial.train_loss)) == (6, 2, 1)
    assert results.trials["final", "rmsprop", lr, 1].diverged is None


def test_a_score_that_is_not_finite_ends_the_trial():
    def spoil(learner, batch):
        learner.params["w"][:] = math.nan

    task = WrappedTask("score", lambda learner, split: learner._seen == 8 and spoil(learner, split))
    trial = train(task, task.load(), Job(phase="final", optimizer="sgd", lr=0.1, seed=0), epochs=3)
    assert trial.diverged == Diverged(step=8, tensor="w")
    assert len(trial.score) == 2


def test_the_gradients_are_not_timed_as_steps():
    task = WrappedTask("gradients", lambda learner, batch: time.sleep(0.005))
    for trial in run_race(task, optimizers=("rmsprop",), seeds=1).trials.values():
        assert trial.steps == 8
        assert trial.step_seconds > 0
        assert trial.train_seconds - trial.step_seconds >= 8 * 0.005


def test_scoring_and_listening_are_not_timed_as_training():
    task = WrappedTask("score", lambda learner, split: time.sleep(0.01))
    listener = lambda event: time.sleep(0.01) if isinstance(event, Progress) else None  # noqa: E731
    for trial in run_race(task, optimizers=("rmsprop",), seeds=1, epochs=3, listener=listener).trials.values():
        assert 0 < trial.step_seconds < trial.train_seconds
        # Four scorings and three calls of the listener.
        assert trial.seconds - trial.train_seconds >= 0.07


def test_optimizers_take_turns_and_each_seed_starts_with_another():
    optimizers = ("sgd", "adam", "rmsprop")
    jobs = list(run_race(ValleyTask(), optimizers=optimizers, seeds=4).trials.values())
    rounds = [jobs[k : k + 3] for k in range(0, len(jobs), 3)]
    assert [(turn[0].phase, turn[0].seed) for turn in rounds] == [("tuning", 1000)] * 3 + [
        ("final", seed) for seed in range(4)
    ]
    for turn in rounds:
        assert {job.optimizer for job in turn} == set(optimizers)
        assert len({job.seed for job in turn}) == 1
    assert {turn[0].optimizer for turn in rounds[3:]} == set(optimizers)


def test_an_optimizer_of_another_framework_raises_before_the_data_are_read():
    task = ValleyTask()
    task.load = lambda: pytest.fail("the data were read")
    with pytest.raises(InputError, match="torch-rmsprop does not run in numpy, only in torch: leave it out of --with"):
        run_race(task, optimizers=("torch-rmsprop", "rmsprop"))


def test_the_effective_learning_rate_is_recorded_at_steps_1_2_5_10_of_final_trials():
    results = run_race(ValleyTask(), optimizers=("sgd", "adam", "rmsprop"), seeds=1, epochs=3)
    for key, trial in results.trials.items():
        steps = [point[0] for point in trial.effective_lr]
        assert steps == ([1, 2, 5, 10] if key[0] == "final" and key[1] != "sgd" else [])
        assert all(low <= middle <= high for _, low, middle, high in trial.effective_lr)


@pytest.mark.parametrize("ends", [1, 4, 7])
def test_a_resumed_benchmark_ends_like_an_uninterrupted_one(ends):
    task, events = ValleyTask(), []

    def interrupt(event):
        events.append(isinstance(event, Trial))
        if sum(events) == ends:
            raise KeyboardInterrupt

    interrupted = run_race(task, listener=interrupt)
    assert len(interrupted.trials) == ends
    assert not is_complete(task, interrupted)
    started = []
    resumed = run_race(task, earlier=copy_results(interrupted), listener=started.append)
    assert (started[0].done, started[0].trials) == (ends, 10)
    assert is_complete(task, resumed)
    assert collect_curves(resumed) == collect_curves(run_race(task))


@pytest.mark.parametrize(
    ("seeds", "optimizers", "expected"),
    [(1, ("rmsprop",), set()), (2, ("rmsprop", "sgd"), {("rmsprop", 1), ("sgd", 0), ("sgd", 1), ("sgd", 1000)})],
)
def test_a_resumed_benchmark_runs_only_the_seeds_and_optimizers_that_are_new(seeds, optimizers, expected):
    task, events = ValleyTask(), []
    earlier = run_race(task, optimizers=("rmsprop",), seeds=1)
    run_race(task, optimizers=optimizers, seeds=seeds, earlier=earlier, listener=events.append)
    jobs = [event for event in events if isinstance(event, Trial)]
    assert {(job.optimizer, job.seed) for job in jobs} == expected


@pytest.mark.parametrize(
    ("task", "epochs", "message"),
    [
        (ValleyTask(), 3, "holds a benchmark with epochs=2, but epochs=3 was asked for"),
        (ValleyTask(target=2.0), 2, "ran on other data than valley has now"),
        (ValleyTask(model="four numbers"), 2, "trained another model, 'three numbers'; .* is now 'four numbers'"),
    ],
)
def test_a_benchmark_with_other_settings_data_or_model_cannot_be_resumed(task, epochs, message):
    earlier = run_race(ValleyTask())
    with pytest.raises(StateError, match=message):
        run_race(task, epochs=epochs, earlier=earlier)


def test_a_file_that_does_not_say_what_was_trained_can_be_resumed():
    earlier = run_race(ValleyTask())
    earlier.model = ""
    assert run_race(ValleyTask(model="four numbers"), earlier=earlier).trials == earlier.trials


@pytest.mark.parametrize(
    ("environment", "done", "later", "changes"),
    [
        ({"python": "2.7"}, 5, [platform.python_version()], (f"python 2.7 before, {platform.python_version()} now",)),
        ({}, 5, [], ()),
        # A complete race runs no trial, so nothing is added.
        ({"python": "2.7"}, 10, [], ()),
    ],
)
def test_a_resumed_benchmark_records_all_environments_that_trials_ran_in(environment, done, later, changes):
    task, events = ValleyTask(), []
    earlier = run_race(task)
    earlier.environment.update(environment, date="1999-12-31 23:59 UTC")
    earlier.trials = dict(list(earlier.trials.items())[:done])
    resumed = run_race(task, earlier=copy_results(earlier), listener=events.append)
    until = resumed.environment.pop("until", None)
    assert resumed.environment == earlier.environment
    assert (until is None) == bool(environment)
    assert [environment["python"] for environment in resumed.later] == later
    assert isinstance(events[0], RaceStarted)
    assert events[0].changes == changes
    # Resuming in the last environment once more adds nothing.
    del resumed.trials[next(reversed(resumed.trials))]
    assert len(run_race(task, earlier=resumed).later) == (1 if environment else 0)


def test_a_dataframe_has_a_row_per_trial():
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    results = run_race(ValleyTask(), optimizers=("sgd", "rmsprop"), seeds=2)
    frame = results.to_dataframe()
    assert len(frame) == len(results.trials)
    expected = [(*key, trial.late_score, trial.late_loss) for key, trial in results.trials.items()]
    columns = ["phase", "optimizer", "lr", "seed", "score", "loss"]
    pd.testing.assert_frame_equal(frame[columns], pd.DataFrame(expected, columns=columns))
    assert not frame["diverged"].any()
