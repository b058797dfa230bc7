"""What every torch task promises, on its real data and in miniature; a test file names the tasks it asks."""

import dataclasses
import functools
import itertools

import pytest
import torch

from rmsprop.errors import MissingDependency
from rmsprop.race import data as sources
from rmsprop.race import task as tasks
from rmsprop.race.record import Job
from rmsprop.race.trial import train


def needed(name):
    """Skip, by name, a test whose data are not here."""
    if absent := sources.missing(tasks.get(name).needs):
        pytest.skip(f"the data of {name} are not here ({', '.join(absent)}): make data")


def short(name):
    return dataclasses.replace(tasks.get(name), short=True)


@functools.cache
def whole(name):
    """Return all the data of a task, loaded once."""
    return tasks.get(name).load()


def trial(task, data, *, seed=0, steps=4):
    """Train a few steps with RMSprop at a fixed rate; return the losses and the weights' bytes."""
    from rmsprop.torch import RMSprop

    with task.session():
        learner = task.learner(data, seed)
        optimizer = RMSprop(learner.params, lr=0.002)
        losses = []
        for batch in itertools.islice(learner.batches(1), steps):
            losses.append(learner.gradients(batch)[0])
            optimizer.step()
    return losses, b"".join(param.detach().numpy().tobytes() for param in learner.params)


def refuses_without_data(name, tmp_path, monkeypatch):
    """A task whose data are nowhere says which package has them."""
    monkeypatch.setenv("RMSPROP_DATA", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sources, "_places", lambda found, file: iter([sources.cache() / found.name / file.name]))
    with pytest.raises(MissingDependency) as refusal:
        tasks.get(name).load()
    packages = {package for needed in tasks.get(name).needs for package in sources.source(needed).packages}
    assert any(package in str(refusal.value) for package in packages)
    assert "--fetch" in str(refusal.value)


class Promises:
    """The tests; `loaded` is a fixture of the file: a task that keeps little data, and those data."""

    def test_a_quick_trial_learns(self, loaded):
        task, data = loaded
        job = Job(phase="final", optimizer="rmsprop", lr=task.quick.grid[0], seed=0)
        with task.session():
            done = train(task, data, job, epochs=1)
        assert done.diverged is None
        assert done.loss[-1] < done.loss[0]
        assert task.metric.goodness(done.score[-1]) > task.metric.goodness(done.score[0])

    def test_a_seed_gives_the_same_bits_and_another_seed_others(self, loaded):
        task, data = loaded
        state = torch.random.get_rng_state()
        first, again, other = trial(task, data), trial(task, data), trial(task, data, seed=1)
        assert first == again
        assert first[1] != other[1]
        # The user's own random numbers are left as they were.
        assert torch.equal(state, torch.random.get_rng_state())

    def test_batches_depend_on_the_seed_and_the_epoch_alone(self, loaded):
        task, data = loaded

        def drawn(seed, epoch):
            learner = task.learner(data, seed)
            batches = itertools.islice(learner.batches(epoch), 3)
            parts = ([batch] if torch.is_tensor(batch) else batch for batch in batches)
            return [part.numpy().tobytes() for part in itertools.chain.from_iterable(parts)]

        assert drawn(0, 2) == drawn(0, 2)
        assert drawn(0, 2) != drawn(0, 1)
        assert drawn(0, 2) != drawn(1, 2)

    def test_scoring_changes_nothing_and_repeats_itself(self, loaded):
        task, data = loaded
        learner = task.learner(data, 0)
        before = [param.detach().clone() for param in learner.params]
        assert learner.score("valid") == learner.score("valid")
        assert learner.score("valid") != learner.score("test")
        assert all(torch.equal(a, b) for a, b in zip(before, learner.params, strict=True))

    def test_the_model_has_as_many_parameters_as_it_says(self, loaded):
        task, _ = loaded
        learner = task.learner(whole(task.name), 0)
        assert f"{sum(param.numel() for param in learner.params):,}" in task.model
