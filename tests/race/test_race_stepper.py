"""Optimizers in a race: their formulas for the effective rate, their memory, the form each framework gives them."""

import numpy as np
import pytest

from racing import ValleyTask
from rmsprop.errors import InputError
from rmsprop.race import choice, get
from rmsprop.race.memory import measure
from rmsprop.race.stepper import QUANTILES, NumpyStepper, TorchStepper, quantiles

torch = pytest.importorskip("torch")

IN_TORCH = [name for name in choice.names() if "torch" in choice.get(name).builds]
GRADIENT = [0.5, -2.0, 0.0, 8.0]


def _after_two_steps(framework, name):
    """Two steps with the same gradient from zero; the third entry never has one."""
    if framework == "numpy":
        params = np.zeros(4)
        step = choice.make_stepper(name, "numpy", params, lr=0.1)
        for _ in range(2):
            step(np.array(GRADIENT))
        return step, params
    param = torch.nn.Parameter(torch.zeros(4, dtype=torch.float64))
    step = choice.make_stepper(name, "torch", [param], lr=0.1)
    param.grad = torch.tensor(GRADIENT, dtype=torch.float64)
    for _ in range(2):
        step(None)
    return step, param.detach().numpy()


def _factors(framework, name):
    """By the formulas of the methods, written out."""
    g = np.array([0.5, 2.0, 8.0])
    return {
        ("numpy", "rmsprop"): 0.1 / np.sqrt((1 - 0.9**2) * g**2 + 1e-8),
        ("torch", "rmsprop"): 0.1 / (np.sqrt((1 - 0.99**2) * g**2) + 1e-8),
        ("torch", "torch-rmsprop"): 0.1 / (np.sqrt((1 - 0.99**2) * g**2) + 1e-8),
        ("numpy", "adagrad"): 0.1 / (np.sqrt(2 * g**2) + 1e-10),
        ("torch", "adagrad"): 0.1 / (np.sqrt(2 * g**2) + 1e-10),
        ("numpy", "adam"): 0.1 / (1 - 0.9**2) / (g + 1e-8),
        ("torch", "adam"): 0.1 / (1 - 0.9**2) / (g + 1e-8),
        ("torch", "adamw"): 0.1 / (1 - 0.9**2) / (g + 1e-8),
    }[framework, name]


@pytest.mark.parametrize(
    ("framework", "name"),
    [
        ("numpy", "rmsprop"),
        ("torch", "rmsprop"),
        ("torch", "torch-rmsprop"),
        ("numpy", "adagrad"),
        ("torch", "adagrad"),
        ("numpy", "adam"),
        ("torch", "adam"),
        ("torch", "adamw"),
    ],
)
def test_the_effective_rate_is_that_of_the_method_over_the_entries_that_had_a_gradient(framework, name):
    step, _ = _after_two_steps(framework, name)
    assert step.effective_lr() == pytest.approx(np.quantile(_factors(framework, name), QUANTILES), rel=1e-6)


@pytest.mark.parametrize("framework", ["numpy", "torch"])
@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov"])
def test_optimizers_with_one_rate_for_all_have_no_effective_rate(framework, name):
    assert _after_two_steps(framework, name)[0].effective_lr() is None


def test_before_any_gradient_there_is_no_effective_rate():
    assert choice.make_stepper("rmsprop", "numpy", np.zeros(4), lr=0.1).effective_lr() is None
    assert quantiles([(np.array([np.inf]), np.array([1.0]))]) is None


@pytest.mark.parametrize("name", [name for name in IN_TORCH if name not in ("rmsprop", "adamw", "torch-rmsprop")])
def test_a_baseline_does_the_same_in_both_frameworks(name):
    _, ours = _after_two_steps("numpy", name)
    _, theirs = _after_two_steps("torch", name)
    assert theirs == pytest.approx(ours, rel=1e-6, abs=1e-12)


def test_rmsprop_does_what_torchs_own_does():
    _, ours = _after_two_steps("torch", "rmsprop")
    _, theirs = _after_two_steps("torch", "torch-rmsprop")
    assert ours == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize("name", IN_TORCH)
def test_the_settings_shown_for_torch_are_the_optimizers_own(name):
    group = _after_two_steps("torch", name)[0].optimizer.param_groups[0]
    known = {**group, **dict(zip(("beta1", "beta2"), group.get("betas", ())))}
    for part in choice.get(name).settings("torch").split(", "):
        word, *number = part.split()
        if word == "plain":
            assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0, False, 0)
        else:
            assert known[word] == (float(number[0]) if number else True), part


def test_state_bytes_are_the_size_of_the_buffers():
    # float64: 8 bytes per entry and buffer; torch keeps a step count of 4 bytes beside them.
    sizes = {("numpy", "rmsprop"): 32, ("numpy", "adam"): 64, ("numpy", "sgd"): 0, ("torch", "adam"): 68}
    for (framework, name), size in sizes.items():
        assert _after_two_steps(framework, name)[0].state_bytes() == size, (framework, name)


def test_a_step_takes_as_much_memory_as_its_formula_needs():
    """A learner of 100,000 float32 numbers: temporaries stand out against everything else."""

    class Wide:
        framework = "torch"

        def learner(self, data, seed):
            return self

        params = (torch.nn.Parameter(torch.ones(100_000)),)

        def batches(self, epoch):
            return range(10)

        def gradients(self, batch):
            self.params[0].grad = torch.ones(100_000)
            return 1.0, None

    taken = {
        name: measure(Wide(), None, name, lr=0.001, seed=0).step_per_parameter for name in ("rmsprop", "torch-rmsprop")
    }
    assert taken["rmsprop"] == pytest.approx(0.0, abs=0.01)
    # torch.optim.RMSprop takes the root into a tensor of its own.
    assert taken["torch-rmsprop"] == pytest.approx(4.0, abs=0.01)


def test_memory_in_numpy_counts_temporaries_at_their_peak():
    class Wide(ValleyTask):
        def learner(self, data, seed):
            learner = super().learner(data, seed)
            learner.params = {"w": np.ones(100_000)}
            learner._target = np.zeros(100_000)
            return learner

    memory = measure(Wide(), Wide().load(), "sgd", lr=0.1, seed=0)
    assert (memory.parameters, memory.state_bytes) == (100_000, 0)
    # lr * grad is one array of float64.
    assert memory.step_per_parameter == pytest.approx(8.0, abs=0.1)


def test_measuring_leaves_the_weights_of_a_trial_alone():
    task = ValleyTask()
    before = task.learner(task.load(), 5).params["w"].copy()
    measure(task, task.load(), "adam", lr=0.1, seed=5)
    assert np.array_equal(task.learner(task.load(), 5).params["w"], before)


def test_who_takes_sparse_gradients_takes_them():
    for name in IN_TORCH:
        table = torch.nn.Embedding(5, 2, sparse=True)
        host = choice.get(name).build("torch")
        if host.sparse is None:
            continue
        step = choice.make_stepper(name, "torch", [table.weight], lr=0.1, sparse=True)
        before = table.weight.detach().clone()
        with get("ratings").session():
            table(torch.tensor([1, 3])).sum().backward()
            assert table.weight.grad.is_sparse
            step(None)
        moved = (table.weight.detach() != before).any(1)
        assert moved.tolist() == [False, True, False, True, False], name


def test_each_framework_has_its_stepper_and_its_wait():
    assert isinstance(_after_two_steps("numpy", "adam")[0], NumpyStepper)
    waited = []
    param = torch.nn.Parameter(torch.zeros(1))
    param.grad = torch.ones(1)
    step = TorchStepper(torch.optim.SGD([param], lr=0.5), wait=lambda: waited.append(param.item()))
    step(None)
    assert waited == [-0.5]


def test_a_step_on_a_device_waits_for_that_device_and_not_for_the_current_one(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda device=None: waited.append(device))
    wait = choice._waits_for(torch.empty(1, device="meta"))
    wait()
    assert waited == [torch.device("meta")]
    assert choice._waits_for(torch.empty(1)) is None


def test_an_optimizer_of_another_framework_is_refused_by_name():
    with pytest.raises(InputError, match="torch-rmsprop does not run in numpy, only in torch"):
        choice.make_stepper("torch-rmsprop", "numpy", np.zeros(2), lr=0.1)
