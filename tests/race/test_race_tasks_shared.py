"""What every torch task promises: the same start for everyone, nothing drawn from the global generator, no leaks."""

import dataclasses
import math

import pytest

from rmsprop.errors import InputError, MissingDependency
from rmsprop.race import choice, get
from rmsprop.race.record import Diverged, Job
from rmsprop.race.trial import train

torch = pytest.importorskip("torch")

MINE = ["fashion", "mnist", "diamonds", "ratings", "cartpole"]
TENSORS = ["fashion", "mnist", "diamonds", "ratings"]


@pytest.fixture(scope="module")
def loaded():
    """Each task with its short data, read once."""
    kept = {}

    def load(name):
        if name not in kept:
            # One thread: these tests share their cores with others, and waiting threads spin.
            task = dataclasses.replace(get(name), short=True, threads=1)
            try:
                kept[name] = task, task.load()
            except MissingDependency as error:
                kept[name] = str(error)
        if isinstance(kept[name], str):
            pytest.skip(kept[name])
        return kept[name]

    return load


def _trained(task, data, *, optimizer="rmsprop", seed=0, epochs=1):
    with task.session():
        lr = 0.1 if optimizer == "sgd" else 0.003
        return train(task, data, Job(phase="final", optimizer=optimizer, lr=lr, seed=seed), epochs=epochs)


@pytest.mark.parametrize("name", MINE)
def test_the_same_seed_gives_the_same_bits_and_leaves_the_global_generator_alone(loaded, name):
    task, data = loaded(name)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    first = _trained(task, data)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(3)
    again, other = _trained(task, data), _trained(task, data, seed=1)
    assert (first.score, first.loss, first.train_loss) == (again.score, again.loss, again.train_loss)
    assert first.train_loss != other.train_loss


@pytest.mark.parametrize("name", MINE)
def test_everyone_starts_from_the_same_weights(loaded, name):
    task, data = loaded(name)
    one, other = task.learner(data, 5), task.learner(data, 5)
    assert all(torch.equal(a, b) for a, b in zip(one.params, other.params, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one.params, task.learner(data, 6).params, strict=True))


@pytest.mark.parametrize("name", TENSORS)
def test_the_loss_falls(loaded, name):
    task, data = loaded(name)
    trial = _trained(task, data, epochs=3)
    assert trial.loss[-1] < 0.95 * trial.loss[0]
    assert trial.train_loss[-1] < trial.train_loss[0]


@pytest.mark.parametrize("name", TENSORS)
def test_an_epoch_passes_over_every_training_example_once_in_an_order_of_its_own(loaded, name):
    task, data = loaded(name)
    learner = task.learner(data, 0)
    first, second = (torch.cat([batch[-1] for batch in learner.batches(epoch)]) for epoch in (1, 2))
    assert len(first) == data.sizes["train"]
    assert not torch.equal(first, second)
    assert torch.equal(first.sort().values, second.sort().values)
    assert torch.equal(first, torch.cat([batch[-1] for batch in task.learner(data, 0).batches(1)]))


@pytest.mark.parametrize("name", TENSORS)
def test_batches_are_full_but_for_the_last(loaded, name):
    task, data = loaded(name)
    sizes = [len(batch[-1]) for batch in task.learner(data, 0).batches(1)]
    assert len(set(sizes[:-1])) == 1
    assert 0 < sizes[-1] <= sizes[0]


@pytest.mark.parametrize("name", MINE)
def test_the_number_of_parameters_is_the_one_described(loaded, name):
    task, data = loaded(name)
    count = sum(param.numel() for param in task.learner(data, 0).params)
    assert f"{count:,} parameters" in task.model


@pytest.mark.parametrize("name", MINE)
def test_a_culprit_is_named(loaded, name):
    task, data = loaded(name)
    learner = task.learner(data, 0)
    with task.session():
        learner.gradients(next(iter(learner.batches(1))))
    assert learner.culprit() == "the loss"
    names = [name for name, _ in learner.model.named_parameters()]
    grad = learner.params[-1].grad
    (grad.coalesce().values() if grad.is_sparse else grad).fill_(float("nan"))
    if not grad.is_sparse:
        assert learner.culprit() == f"the gradient of {names[-1]}"
    learner.params[0].data.view(-1)[0] = float("inf")
    assert learner.culprit() == names[0]


def test_a_diverging_rate_is_a_result(loaded):
    task, data = loaded("diamonds")
    with task.session():
        trial = train(task, data, Job(phase="tuning", optimizer="sgd", lr=1e30, seed=1000), epochs=2)
    # The weights of about 1e30 are numbers still; it is the second layer, a sum of their products, that is none.
    assert trial.diverged == Diverged(step=2, tensor="the output of 2 (Linear)")


def test_a_loss_that_is_no_number_is_traced_to_the_first_layer_whose_output_is_none(loaded):
    task, data = loaded("mnist")
    learner = task.learner(data, 0)
    batch = next(iter(learner.batches(1)))
    with torch.no_grad():
        learner.model[3].weight.mul_(1e38)
        learner.model[3].bias.fill_(torch.finfo(torch.float32).max)
    loss, _ = learner.gradients(batch)
    assert not math.isfinite(loss)
    # Every gradient is NaN by now, the first layer's as well.
    assert not torch.isfinite(learner.params[0].grad).all()
    assert learner.culprit() == "the output of 3 (Linear)"
    assert not learner.model[3]._forward_hooks


def test_of_several_weights_that_are_no_numbers_the_one_nearest_to_the_loss_is_named(loaded):
    task, data = loaded("mnist")
    learner = task.learner(data, 0)
    for param in learner.params[1:4]:
        param.data.view(-1)[0] = float("nan")
    assert learner.culprit() == "3.bias"


@pytest.mark.parametrize("optimizer", [name for name in choice.names() if "torch" in choice.get(name).builds])
def test_every_optimizer_trains_the_sparse_task_and_sees_the_same_gradient(loaded, optimizer):
    task, data = loaded("ratings")
    trial, reference = _trained(task, data, optimizer=optimizer), _trained(task, data, optimizer="sgd")
    assert trial.diverged is None
    # Before the first step nobody differs, sparse or dense.
    assert trial.loss[0] == reference.loss[0]


def test_sparse_and_dense_gradients_are_the_same_numbers(loaded):
    task, data = loaded("ratings")
    sparse, dense = task.learner(data, 0), task.learner(data, 0)
    dense.make_dense()
    batch = next(iter(sparse.batches(1)))
    sparse.gradients(batch)
    dense.gradients(batch)
    for mine, theirs in zip(sparse.params, dense.params, strict=True):
        assert mine.grad.is_sparse
        assert not theirs.grad.is_sparse
        torch.testing.assert_close(mine.grad.to_dense(), theirs.grad)


@pytest.mark.parametrize("device", ["cuda:77", "nonsense", "cuda:x"])
def test_a_device_that_is_not_there_is_refused_before_the_data_are_read(device):
    task = dataclasses.replace(get("mnist"), device=device)
    for begin in (task.session, task.load):
        with pytest.raises(InputError, match=f"device='{device}' cannot be used: .* Expected a torch device"):
            begin()


def test_a_session_has_as_many_threads_as_the_task_says_or_as_were_asked_for(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    mnist = get("mnist")
    cases = (
        ({}, 2),
        ({"asked_threads": 1}, 1),
        ({"short": True}, 1),
        ({"short": True, "asked_threads": 2}, 2),
        ({"asked_threads": 99}, 2),
    )
    for changes, threads in cases:
        task = dataclasses.replace(mnist, **changes)
        with task.session():
            assert torch.get_num_threads() == task.used_threads == threads


def test_a_session_puts_the_threads_back():
    before = torch.get_num_threads()
    with dataclasses.replace(get("mnist"), threads=1).session():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_gradients_are_clipped_to_the_norm_of_the_task(loaded):
    task, data = loaded("cartpole")
    learner = task.learner(data, 0)
    learner.model["critic"][-1].bias.data.fill_(1000.0)
    learner.gradients(None)
    norm = torch.stack([param.grad.norm() for param in learner.params if param.grad is not None]).norm()
    assert float(norm) == pytest.approx(learner.max_norm, rel=1e-4)
