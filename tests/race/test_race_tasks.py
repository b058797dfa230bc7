"""Every task: a trial is reproducible and learns, its batches depend on seed and epoch alone, its texts are true."""

import dataclasses
import math
import sys

import numpy as np
import pytest
from task_data import get_first_batches, hide_installed_data, load, load_tiny_finetune, take_steps, train_task

from rmsprop.errors import InputError, MissingDependency
from rmsprop.race import choice, get, names
from rmsprop.race.record import Diverged
from rmsprop.race.sources import SOURCES
from rmsprop.race.task import TorchTask

torch = pytest.importorskip("torch")

TORCH = [name for name in names() if isinstance(get(name), TorchTask)]
TABLES = ["digits", "tumors", "fashion", "mnist", "speech", "diamonds", "ratings"]
LEARNING = [name for name in names() if name not in ("cartpole", "finetune", "translate")]


@pytest.fixture(scope="module")
def load_short():
    return lambda name: load_tiny_finetune() if name == "finetune" else load(name, short=True)


def get_arrays(params):
    return list(params.values()) if isinstance(params, dict) else [param.detach().numpy().copy() for param in params]


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_a_seed_gives_the_same_bits_and_the_users_random_numbers_stay_as_they_were(name, load_short):
    task, data = load_short(name)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    first = take_steps(task, data)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(3)
    assert take_steps(task, data) == first
    assert take_steps(task, data, seed=1)[0] != first[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*LEARNING, pytest.param("translate", marks=pytest.mark.slow)])
def test_a_quick_trial_learns(name, load_short):
    task, data = load_short(name)
    trial = train_task(task, data, lr=task.quick.grid[0])
    assert trial.diverged is None
    assert trial.loss[-1] < trial.loss[0]
    assert task.metric.goodness(trial.score[-1]) > task.metric.goodness(trial.score[0])


@pytest.mark.parametrize("name", [name for name in names() if name != "cartpole"])
def test_batches_depend_on_the_seed_and_the_epoch_alone(name, load_short):
    task, data = load_short(name)

    def get_bytes(seed, epoch):
        batches = get_first_batches(task, data, seed=seed, epoch=epoch)
        return b"".join(np.asarray(part).tobytes() for batch in batches for part in batch)

    assert get_bytes(0, 2) == get_bytes(0, 2)
    assert get_bytes(0, 2) != get_bytes(0, 1)
    assert get_bytes(0, 2) != get_bytes(1, 2)


@pytest.mark.parametrize("name", TABLES)
def test_an_epoch_uses_every_training_example_once_in_full_batches_but_for_the_last(name, load_short):
    task, data = load_short(name)
    batches = get_first_batches(task, data, count=None)
    splits = data.content if name in ("digits", "tumors") else data.content.splits
    sizes = [len(batch[-1]) for batch in batches]
    assert len(set(sizes[:-1])) == 1
    assert 0 < sizes[-1] <= sizes[0]
    for column, part in enumerate(splits["train"]):
        seen = np.concatenate([np.asarray(batch[column]) for batch in batches])
        assert np.array_equal(np.sort(seen, axis=None), np.sort(np.asarray(part), axis=None))


@pytest.mark.parametrize("name", names())
def test_scoring_changes_nothing_and_is_reproducible(name, load_short):
    task, data = load_short(name)
    learner = task.learner(data, 0)
    before = get_arrays(learner.params)
    with task.session():
        valid, again, test = (learner.score(split) for split in ("valid", "valid", "test"))
    assert valid == again != test
    assert all(np.array_equal(a, b) for a, b in zip(before, get_arrays(learner.params), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_the_model_has_as_many_parameters_as_its_description_says(name):
    task, data = load(name)
    assert f"{sum(array.size for array in get_arrays(task.learner(data, 0).params)):,}" in task.model


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in TORCH if name not in ("cartpole", "speech")])
def test_the_data_of_quick_have_another_fingerprint(name):
    task, data = load(name, short=True)
    assert task.load().fingerprint == data.fingerprint != load(name)[1].fingerprint


@pytest.mark.parametrize("name", [name for name in TORCH if name != "cartpole"])
def test_missing_data_are_reported_with_the_package(name, tmp_path, monkeypatch):
    hide_installed_data(monkeypatch, tmp_path)
    with pytest.raises(MissingDependency, match="--fetch") as caught:
        get(name).load()
    assert any(SOURCES[need].packages[0] in str(caught.value) for need in get(name).needs)


@pytest.mark.parametrize(
    ("name", "module", "message"),
    [
        ("digits", "sklearn", r'scikit-learn is needed for .*: pip install "rmsprop\[lab\]"'),
        ("mnist", "torch", r'torch is needed for the task mnist: pip install "rmsprop\[torch\]"'),
        ("ratings", "rdata", r'rdata is needed for the ratings.*pip install "rmsprop\[race\]"'),
        ("cartpole", "gymnasium", r'gymnasium is needed for .*: pip install "rmsprop\[race\]"'),
        ("finetune", "transformers", r'transformers is needed for .*: pip install "rmsprop\[race\]"'),
    ],
)
def test_a_missing_package_is_reported_with_the_extra_that_brings_it(name, module, message, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependency, match=message):
        get(name).load()


# --- what is not finite


@pytest.mark.parametrize("name", TORCH)
def test_a_weight_or_gradient_that_is_not_finite_is_named(name, load_short):
    task, data = load_short(name)
    learner = task.learner(data, 0)
    names = [name for name, _ in learner.model.named_parameters()]
    with task.session():
        learner.gradients(next(iter(learner.batches(1))))
        assert learner.find_nonfinite() == "the loss"
        grad = learner.params[-1].grad
        (grad._values() if grad.is_sparse else grad).fill_(float("nan"))
        assert learner.find_nonfinite() == f"the gradient of {names[-1]}"
        learner.params[0].data.view(-1)[0] = float("inf")
        assert learner.find_nonfinite() == names[0]
        # Of several weights the nearest to the loss.
        learner.params[-1].data.view(-1)[0] = float("nan")
        assert learner.find_nonfinite() == names[-1]


def test_a_loss_that_is_not_finite_is_traced_to_the_first_layer_with_such_an_output(load_short):
    task, data = load_short("mnist")
    learner = task.learner(data, 0)
    with torch.no_grad():
        learner.model[3].weight.mul_(1e38)
        learner.model[3].bias.fill_(torch.finfo(torch.float32).max)
    loss, _ = learner.gradients(next(iter(learner.batches(1))))
    assert not math.isfinite(loss)
    # Every gradient is NaN by now, the first layer's as well.
    assert not torch.isfinite(learner.params[0].grad).all()
    assert learner.find_nonfinite() == "the output of 3 (Linear)"
    assert not learner.model[3]._forward_hooks


# With lr 1e30 the weights, about 1e30, are finite; the output of the second layer, a sum of their products, is not.
@pytest.mark.parametrize(
    ("name", "tensor"), [("diamonds", "the output of 2 (Linear)"), ("digits", "the gradient of b2")]
)
def test_a_trial_that_diverges_is_a_result_and_no_warning(load_short, name, tensor):
    trial = train_task(*load_short(name), optimizer="sgd", lr=1e30)
    assert trial.diverged == Diverged(step=2, tensor=tensor)
    assert all(map(math.isfinite, (*trial.score, *trial.loss, *trial.train_loss)))


# --- sparse gradients


@pytest.mark.parametrize("optimizer", [name for name in choice.names() if "torch" in choice.get(name).builds])
def test_every_optimizer_trains_the_task_with_sparse_gradients_from_the_same_start(load_short, optimizer):
    task, data = load_short("ratings")
    trial = train_task(task, data, optimizer=optimizer)
    assert trial.diverged is None
    assert trial.loss[0] == task.learner(data, 0).score("test")[1]


def test_sparse_and_dense_gradients_are_the_same_numbers(load_short):
    task, data = load_short("ratings")
    sparse, dense = task.learner(data, 0), task.learner(data, 0)
    dense.make_dense()
    (batch,) = get_first_batches(task, data, count=1)
    sparse.gradients(batch)
    dense.gradients(batch)
    for param, expected in zip(sparse.params, dense.params, strict=True):
        assert (param.grad.is_sparse, expected.grad.is_sparse) == (True, False)
        torch.testing.assert_close(param.grad.to_dense(), expected.grad)


# --- device, threads, clipping


@pytest.mark.parametrize("device", ["cuda:77", "nonsense", "cuda:x"])
def test_an_unknown_device_raises_before_the_data_are_read(device):
    task = dataclasses.replace(get("mnist"), device=device)
    for use in (lambda: task.session().__enter__(), task.load):
        with pytest.raises(InputError, match=f"device='{device}' cannot be used: .* Expected a torch device"):
            use()


@pytest.mark.parametrize(
    ("changes", "threads"),
    [
        ({}, 2),
        ({"asked_threads": 1}, 1),
        ({"short": True}, 1),
        ({"short": True, "asked_threads": 2}, 2),
        ({"asked_threads": 99}, 2),
    ],
)
def test_a_session_has_as_many_threads_as_the_task_says_or_as_were_asked_for(changes, threads, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    before = torch.get_num_threads()
    task = dataclasses.replace(get("mnist"), **changes)
    with task.session():
        assert torch.get_num_threads() == task.used_threads == threads
    assert torch.get_num_threads() == before


def test_a_session_on_cuda_is_deterministic_and_restores_the_settings(monkeypatch):
    monkeypatch.setattr(TorchTask, "_check_device", lambda task: None)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")

    def get_settings():
        fill = torch.utils.deterministic.fill_uninitialized_memory
        return torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark, fill

    with torch.backends.cudnn.flags(enabled=True, benchmark=True):
        before = get_settings()
        with dataclasses.replace(get("mnist"), device="cuda").session():
            assert get_settings() == (True, False, False)
        assert get_settings() == before == (False, True, True)


@pytest.mark.parametrize("name", ["cartpole", "kjv", "translate", "finetune"])
def test_gradients_are_clipped_to_the_norm_of_the_task(name, load_short):
    task, data = load_short(name)
    learner = task.learner(data, 0)
    loss = learner.loss
    learner.loss = lambda batch: 1000 * loss(batch)
    with task.session():
        learner.gradients(next(iter(learner.batches(1))))
    norm = torch.stack([param.grad.norm() for param in learner.params if param.grad is not None]).norm()
    assert float(norm) == pytest.approx(learner.max_norm, rel=1e-4)
    assert f"norm {learner.max_norm:g}" in task.model
