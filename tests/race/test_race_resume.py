"""A race that goes on: like one that was never broken off, and honest about where each part of it ran."""

import dataclasses
import platform

import pytest

from racing import ValleyTask, curves, run
from rmsprop.errors import StateError
from rmsprop.race import Results, Settings
from rmsprop.race.run import Began, Ended, finished


@pytest.mark.parametrize("ends", [1, 4, 7])
def test_ctrl_c_keeps_what_is_done_and_a_resumed_race_ends_like_an_unbroken_one(ends):
    task = ValleyTask()
    count = 0

    def impatient(event):
        nonlocal count
        count += isinstance(event, Ended)
        if count == ends:
            raise KeyboardInterrupt

    broken = run(task, listener=impatient)
    assert len(broken.trials) == ends
    assert not finished(task, broken)
    stored = Results.from_json(broken.to_json({}), where="memory")
    began = []
    resumed = run(task, earlier=stored, listener=lambda e: began.append(e) if isinstance(e, Began) else None)
    assert (began[0].done, began[0].trials) == (ends, 10)
    assert finished(task, resumed)
    assert curves(resumed) == curves(run(task))


def test_resuming_a_finished_race_trains_nothing():
    task = ValleyTask()
    whole = run(task)
    events = []
    again = run(task, earlier=whole, listener=events.append)
    assert not [event for event in events if isinstance(event, Ended)]
    assert again.trials == whole.trials


def test_seeds_and_optimizers_may_be_added_to_a_race():
    task = ValleyTask()
    small = run(task, optimizers=("rmsprop",), seeds=1)
    ended = []
    run(
        task,
        optimizers=("rmsprop", "sgd"),
        seeds=2,
        earlier=small,
        listener=lambda e: ended.append(e.trial.job) if isinstance(e, Ended) else None,
    )
    assert {job.seed for job in ended if job.optimizer == "rmsprop"} == {1}
    assert {job.seed for job in ended if job.optimizer == "sgd"} == {0, 1, 1000}


def test_a_race_by_other_rules_is_not_resumed():
    task = ValleyTask()
    with pytest.raises(StateError, match="holds a race with epochs=2, this one asks for 3"):
        run(task, epochs=3, earlier=run(task))


def test_a_race_on_other_data_is_not_resumed():
    with pytest.raises(StateError, match="ran on other data than valley has now"):
        run(ValleyTask(target=2.0), earlier=run(ValleyTask()))


def _half(task, **environment):
    """A race of which half is done, somewhere else."""
    whole = run(task)
    whole.environment.update(environment)
    half = Results.from_json(whole.to_json({}), where="memory")
    half.trials = dict(list(half.trials.items())[:5])
    return whole, half


def test_a_resumed_race_keeps_where_its_first_trials_ran_and_adds_where_the_others_do():
    task = ValleyTask()
    whole, half = _half(task, python="2.7", date="1999-12-31 23:59 UTC")
    began = []
    resumed = run(task, earlier=half, listener=lambda e: began.append(e) if isinstance(e, Began) else None)
    assert resumed.environment == whole.environment
    assert [environment["python"] for environment in resumed.later] == [platform.python_version()]
    assert began[0].changes == (f"python 2.7 before, {platform.python_version()} now",)
    # A third visit to where the second was adds nothing.
    del resumed.trials[next(reversed(resumed.trials))]
    assert run(task, earlier=resumed).environments == resumed.environments


def test_another_day_alone_is_the_same_environment():
    task = ValleyTask()
    whole, half = _half(task, date="1999-12-31 23:59 UTC")
    resumed = run(task, earlier=half)
    assert resumed.later == []
    assert resumed.environment["date"] == whole.environment["date"]
    assert resumed.environment["until"] > whole.environment["date"]


def test_a_finished_race_that_is_looked_at_again_ran_where_it_ran():
    task = ValleyTask()
    whole = run(task)
    whole.environment.update(torch="0.1", python="2.7", date="1999-12-31 23:59 UTC")
    began = []
    again = run(task, earlier=whole, listener=lambda e: began.append(e) if isinstance(e, Began) else None)
    assert again.environments == whole.environments == [whole.environment]
    assert began[0].changes == ()


def test_a_race_of_another_model_is_not_resumed():
    task = ValleyTask()
    earlier = run(task)
    task.model = "four numbers"
    with pytest.raises(StateError, match="trained another model, 'three numbers'; valley has now 'four numbers'"):
        run(task, earlier=earlier)
    # Where it is not known what was trained, nothing is held against it.
    earlier.model = ""
    assert run(task, earlier=earlier).trials == earlier.trials


def test_results_of_another_device_or_of_a_part_of_the_data_are_not_joined():
    settings = Settings.of(ValleyTask())
    for change in ({"device": "cuda"}, {"short": True}, {"threads": 2}):
        with pytest.raises(StateError, match="resume it without changing that"):
            settings.refuse_another_protocol(dataclasses.replace(settings, **change), where="there")
