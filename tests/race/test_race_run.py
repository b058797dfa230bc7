"""Tuning without a leak, equal budgets, timing, breaking off, diverging."""

import dataclasses
import math
import time

import numpy as np
import pytest

from racing import ValleyTask, curves, run
from rmsprop.errors import InputError
from rmsprop.race import Settings, choice, get
from rmsprop.race.record import Diverged, Job
from rmsprop.race.run import Chosen, Ended, Epoch, Stepped, best_rate, finished, train


def test_every_optimizer_gets_the_same_trials():
    results = run(ValleyTask(), optimizers=("sgd", "adam", "rmsprop"), seeds=3)
    per_optimizer = {
        optimizer: [key for key in results.trials if key[1] == optimizer] for optimizer in results.settings.optimizers
    }
    for optimizer, keys in per_optimizer.items():
        tuned = {(lr, seed) for phase, _, lr, seed in keys if phase == "tuning"}
        raced = {seed for phase, _, _, seed in keys if phase == "final"}
        assert tuned == {(lr, 1000) for lr in (0.01, 0.1, 1.0)}, optimizer
        assert raced == {0, 1, 2}, optimizer
    assert len({trial.steps for trial in results.trials.values()}) == 1


def test_within_a_seed_all_start_from_the_same_score():
    everyone = tuple(name for name in choice.names() if "numpy" in choice.get(name).builds)
    results = run(ValleyTask(), optimizers=everyone, seeds=2)
    for seed in (0, 1):
        starts = {trial.score[0] for key, trial in results.trials.items() if key[0] == "final" and key[3] == seed}
        assert len(starts) == 1


def test_tuning_looks_at_the_validation_examples_and_racing_at_the_test_examples():
    seen = []
    task = ValleyTask()
    build = task.learner

    def watched(data, seed):
        learner = build(data, seed)
        score = learner.score
        learner.score = lambda split: (seen.append((seed, split)), score(split))[1]
        return learner

    task.learner = watched
    run(task)
    assert {split for seed, split in seen if seed >= 1000} == {"valid"}
    assert {split for seed, split in seen if seed < 1000} == {"test"}


def test_the_test_labels_have_no_part_in_the_choice_of_a_rate():
    pytest.importorskip("sklearn")
    honest = get("digits")
    data = honest.load()
    test = data.content["test"]
    shuffled = data.content | {"test": test._replace(labels=np.random.default_rng(0).permutation(test.labels))}

    @dataclasses.dataclass(frozen=True)
    class Shuffled(type(honest)):
        def load(self):
            return dataclasses.replace(data, content=shuffled)

    tasks = (honest, Shuffled(**vars(honest)))
    first, second = (run(task, optimizers=("rmsprop",), seeds=1, epochs=1) for task in tasks)
    assert {k: v for k, v in curves(first).items() if k[0] == "tuning"} == {
        k: v for k, v in curves(second).items() if k[0] == "tuning"
    }
    final = ("final", "rmsprop", best_rate(honest, first, "rmsprop"), 0)
    assert first.trials[final].train_loss == second.trials[final].train_loss
    assert first.trials[final].score != second.trials[final].score


def test_seeds_that_were_tuned_on_cannot_be_reported():
    settings = Settings.of(ValleyTask())
    with pytest.raises(InputError, match="overlap: that would be a leak"):
        dataclasses.replace(settings, seeds=(0, 1000))


@pytest.mark.parametrize(("seeds", "epochs"), [(0, 1), (1001, 1), (1, 0)])
def test_settings_out_of_their_domain_are_refused(seeds, epochs):
    with pytest.raises(InputError, match=r"expected (at least 1|1 to 1000)"):
        Settings.of(ValleyTask(), seeds=seeds, epochs=epochs)


def test_the_chosen_rate_is_the_one_with_the_best_validation_score():
    task = ValleyTask()
    results = run(task, optimizers=("sgd",), epochs=3)
    # On 0.5 |w - t|^2 gradient descent with lr 1 arrives at once.
    assert best_rate(task, results, "sgd") == 1.0


def test_no_rate_is_chosen_before_tuning_ends():
    task = ValleyTask()
    results = run(task)
    del results.trials["tuning", "adam", 0.1, 1000]
    assert best_rate(task, results, "adam") is None
    assert not finished(task, results)


def test_a_rate_that_diverged_is_not_chosen():
    task = ValleyTask()
    results = run(task, optimizers=("sgd",), epochs=3)
    best = results.trials["tuning", "sgd", 1.0, 1000]
    results.add(dataclasses.replace(best, diverged=Diverged(step=9, tensor="w")))
    assert best_rate(task, results, "sgd") == 0.1


def test_a_loss_that_is_no_number_ends_the_trial_and_says_where_it_began():
    task = ValleyTask(poison={0: 7})
    results = run(task, optimizers=("rmsprop",), seeds=2, epochs=3)
    lr = best_rate(task, results, "rmsprop")
    trial = results.trials["final", "rmsprop", lr, 0]
    assert trial.diverged == Diverged(step=7, tensor="the gradient of w")
    assert (trial.steps, len(trial.score), len(trial.train_loss)) == (6, 2, 1)
    assert results.trials["final", "rmsprop", lr, 1].diverged is None


def test_a_diverging_rate_on_real_data_is_a_result_and_not_a_warning():
    pytest.importorskip("sklearn")
    task = get("digits")
    trial = train(task, task.load(), Job(phase="tuning", optimizer="sgd", lr=1e30, seed=1000), epochs=2)
    assert trial.diverged is not None
    assert all(map(math.isfinite, (*trial.score, *trial.loss, *trial.train_loss)))


def test_a_race_repeats_itself_to_the_bit():
    pytest.importorskip("sklearn")
    first, second = (run(get("digits"), optimizers=("adam", "rmsprop"), seeds=1) for _ in range(2))
    assert curves(first) == curves(second)


def test_the_listener_hears_each_choice_and_each_trial():
    events = []
    results = run(ValleyTask(), listener=events.append)
    chosen = {event.optimizer: event.lr for event in events if isinstance(event, Chosen)}
    assert chosen == {optimizer: best_rate(ValleyTask(), results, optimizer) for optimizer in ("adam", "rmsprop")}
    assert [event.trial for event in events if isinstance(event, Ended)] == list(results.trials.values())


def test_only_the_step_is_timed():
    task = ValleyTask()
    build = task.learner

    def slow(data, seed):
        learner = build(data, seed)
        gradients = learner.gradients
        learner.gradients = lambda batch: (time.sleep(0.005), gradients(batch))[1]
        return learner

    task.learner = slow
    for trial in run(task, optimizers=("rmsprop",), seeds=1).trials.values():
        # Whatever the machine does, the sleeps of the gradients are in the one time and not in the other.
        assert trial.steps == 8
        assert trial.train_seconds - trial.step_seconds >= 8 * 0.005
        assert trial.step_seconds > 0


def test_optimizers_take_turns_and_another_one_goes_first_each_time():
    everyone = ("sgd", "adam", "rmsprop")
    ran = [trial.job for trial in run(ValleyTask(), optimizers=everyone, seeds=4).trials.values()]
    tuning, final = ([job for job in ran if job.phase == phase] for phase in ("tuning", "final"))
    for jobs, rounds in ((tuning, 3), (final, 4)):
        turns = [jobs[k : k + 3] for k in range(0, len(jobs), 3)]
        assert len(turns) == rounds
        for turn in turns:
            assert {job.optimizer for job in turn} == set(everyone)
            assert len({(job.seed, job.lr if job.phase == "tuning" else 0.0) for job in turn}) == 1
    assert {job.optimizer for job in final[::3]} == set(everyone)


def test_an_unknown_task_or_baseline_suggests_the_nearest_name():
    with pytest.raises(InputError, match="unknown task 'digts': did you mean 'digits'"):
        get("digts")
    with pytest.raises(InputError, match="unknown optimizer 'rmspropp': did you mean 'rmsprop'"):
        choice.parse("adam,rmspropp")
    with pytest.raises(InputError, match="names no optimizer"):
        choice.parse(" , ")


def test_a_name_far_from_all_is_answered_with_the_list():
    with pytest.raises(InputError, match="unknown task 'qqq'; known: digits"):
        get("qqq")


def test_the_settings_that_the_report_shows_are_the_optimizers_own():
    for name in choice.names():
        entry = choice.get(name)
        if "numpy" not in entry.builds:
            continue
        optimizer = choice.make_stepper(entry.short, "numpy", np.zeros(2), lr=0.1).optimizer
        rule = getattr(optimizer, "rule", optimizer)
        settings = entry.settings("numpy")
        for part in () if settings == "plain" else settings.split(", "):
            word, number = part.split()[:2]
            assert getattr(rule, word) == float(number), (name, part)


def test_an_optimizer_that_a_framework_does_not_have_is_refused_before_the_data_are_read():
    task = ValleyTask()
    task.load = lambda: pytest.fail("the data were read")
    with pytest.raises(InputError, match="torch-rmsprop does not run in numpy, only in torch: leave it out of --with"):
        run(task, optimizers=("torch-rmsprop", "rmsprop"))


def test_a_long_epoch_says_that_it_is_alive_between_steps_and_not_too_often(monkeypatch):
    monkeypatch.setattr("rmsprop.race.trial.SECONDS_BETWEEN_SIGNS", 0.0)
    events = []
    run(ValleyTask(), optimizers=("rmsprop",), seeds=1, epochs=2, listener=events.append)
    final = [(e.epoch, e.steps) for e in events if isinstance(e, Stepped) and e.job.phase == "final"]
    assert final == [(epoch, step) for epoch in (1, 2) for step in (1, 2, 3, 4)]
    monkeypatch.setattr("rmsprop.race.trial.SECONDS_BETWEEN_SIGNS", 3600.0)
    events.clear()
    run(ValleyTask(), optimizers=("rmsprop",), seeds=1, epochs=2, listener=events.append)
    assert not [event for event in events if isinstance(event, Stepped)]


def test_training_time_holds_the_steps_and_leaves_out_scoring_and_listening():
    task = ValleyTask()
    build = task.learner

    def slow(data, seed):
        learner = build(data, seed)
        score = learner.score
        learner.score = lambda split: (time.sleep(0.01), score(split))[1]
        return learner

    task.learner = slow
    listener = lambda event: time.sleep(0.01) if isinstance(event, Epoch) else None  # noqa: E731
    results = run(task, optimizers=("rmsprop",), seeds=1, epochs=3, listener=listener)
    for trial in results.trials.values():
        assert 0 < trial.step_seconds < trial.train_seconds
        # Four scorings and three calls of the listener slept outside of the training.
        assert trial.seconds - trial.train_seconds >= 0.07


def test_the_effective_learning_rate_is_recorded_at_growing_steps_of_reported_trials():
    results = run(ValleyTask(), optimizers=("sgd", "adam", "rmsprop"), seeds=1, epochs=3)
    for key, trial in results.trials.items():
        steps = [point[0] for point in trial.effective_lr]
        assert steps == ([1, 2, 5, 10] if key[0] == "final" and key[1] != "sgd" else [])
        assert all(low <= middle <= high for _, low, middle, high in trial.effective_lr)
