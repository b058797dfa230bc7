"""Optimizers in a benchmark: their effective learning rate, their memory, and their form in each framework."""

import numpy as np
import pytest

from rmsprop.race import choice, get
from rmsprop.race.memory import measure
from rmsprop.race.stepper import QUANTILES, TorchStepper, measure_quantiles
from small_tasks import ValleyTask

torch = pytest.importorskip("torch")

IN_TORCH = [name for name in choice.names() if "torch" in choice.get(name).builds]
IN_BOTH = [name for name in IN_TORCH if "numpy" in choice.get(name).builds]
GRADIENT = [0.5, -2.0, 0.0, 8.0]


def do_two_steps(framework, name):
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


G = np.array([0.5, 2.0, 8.0])
FORMULAS = {
    ("numpy", "rmsprop"): 0.1 / np.sqrt((1 - 0.9**2) * G**2 + 1e-8),
    ("torch", "rmsprop"): 0.1 / (np.sqrt((1 - 0.99**2) * G**2) + 1e-8),
    ("torch", "torch-rmsprop"): 0.1 / (np.sqrt((1 - 0.99**2) * G**2) + 1e-8),
    ("numpy", "adagrad"): 0.1 / (np.sqrt(2 * G**2) + 1e-10),
    ("torch", "adagrad"): 0.1 / (np.sqrt(2 * G**2) + 1e-10),
    ("numpy", "adam"): 0.1 / (1 - 0.9**2) / (G + 1e-8),
    ("torch", "adam"): 0.1 / (1 - 0.9**2) / (G + 1e-8),
    ("torch", "adamw"): 0.1 / (1 - 0.9**2) / (G + 1e-8),
}


@pytest.mark.parametrize(("framework", "name"), FORMULAS)
def test_the_effective_rate_follows_the_formula_over_the_entries_that_had_a_gradient(framework, name):
    step, _ = do_two_steps(framework, name)
    assert step.effective_lr() == pytest.approx(np.quantile(FORMULAS[framework, name], QUANTILES), rel=1e-6)


@pytest.mark.parametrize("framework", ["numpy", "torch"])
@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov"])
def test_optimizers_with_the_same_rate_for_all_entries_have_no_effective_rate(framework, name):
    assert do_two_steps(framework, name)[0].effective_lr() is None


def test_before_the_first_gradient_there_is_no_effective_rate():
    assert choice.make_stepper("rmsprop", "numpy", np.zeros(4), lr=0.1).effective_lr() is None
    assert measure_quantiles([(np.array([np.inf]), np.array([1.0]))]) is None


@pytest.mark.parametrize("name", [name for name in IN_BOTH if name not in ("rmsprop", "adamw")])
def test_a_baseline_is_the_same_in_both_frameworks(name):
    _, in_numpy = do_two_steps("numpy", name)
    _, in_torch = do_two_steps("torch", name)
    assert in_torch == pytest.approx(in_numpy, rel=1e-6, abs=1e-12)


def test_rmsprop_equals_torch_rmsprop():
    _, ours = do_two_steps("torch", "rmsprop")
    _, theirs = do_two_steps("torch", "torch-rmsprop")
    assert ours == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize(
    ("framework", "name"), [("torch", name) for name in IN_TORCH] + [("numpy", name) for name in IN_BOTH]
)
def test_the_settings_in_the_report_are_those_of_the_optimizer(framework, name):
    optimizer = do_two_steps(framework, name)[0].optimizer
    if framework == "torch":
        group = optimizer.param_groups[0]
        known = {**group, **dict(zip(("beta1", "beta2"), group.get("betas", ())))}
    else:
        rule = getattr(optimizer, "rule", optimizer)
        known = {word: getattr(rule, word) for word in dir(rule)}
    for part in choice.get(name).settings(framework).split(", "):
        word, *number = part.split()
        if word == "plain":
            assert not known.get("momentum", 0)
        else:
            assert known[word] == (float(number[0]) if number else True), part


@pytest.mark.parametrize(
    # float64: 8 bytes per entry and buffer; torch keeps a step count of 4 bytes in addition.
    ("framework", "name", "size"),
    [("numpy", "rmsprop", 32), ("numpy", "adam", 64), ("numpy", "sgd", 0), ("torch", "adam", 68)],
)
def test_state_bytes_are_the_size_of_the_buffers(framework, name, size):
    assert do_two_steps(framework, name)[0].state_bytes() == size


class WideTask(ValleyTask):
    """100,000 parameters, so that temporaries of a step are larger than all other allocations."""

    def __init__(self, framework):
        super().__init__()
        self.framework = framework

    def learner(self, data, seed):
        learner = super().learner(data, seed)
        learner._target = np.zeros(100_000)
        learner.params = {"w": np.ones(100_000)}
        if self.framework == "torch":
            learner.params = [torch.nn.Parameter(torch.ones(100_000))]
            learner.gradients = self.set_gradient(learner.params[0])
        return learner

    @staticmethod
    def set_gradient(param):
        def gradients(batch):
            param.grad = torch.ones(100_000)
            return 1.0, None

        return gradients


@pytest.mark.parametrize(
    ("framework", "name", "step_bytes"),
    [
        ("torch", "rmsprop", 0.0),
        ("torch", "torch-rmsprop", 4.0),  # the square root, in float32
        ("numpy", "sgd", 8.0),  # lr * grad, in float64
    ],
)
def test_a_step_allocates_what_its_formula_needs(framework, name, step_bytes):
    task = WideTask(framework)
    memory = measure(task, task.load(), name, lr=0.001, seed=0)
    assert memory.parameters == 100_000
    assert memory.step_per_parameter == pytest.approx(step_bytes, abs=0.1)


@pytest.mark.parametrize("name", [name for name in IN_TORCH if choice.get(name).build("torch").sparse is not None])
def test_an_optimizer_that_accepts_sparse_gradients_updates_their_rows_only(name):
    table = torch.nn.Embedding(5, 2, sparse=True)
    step = choice.make_stepper(name, "torch", [table.weight], lr=0.1, sparse=True)
    before = table.weight.detach().clone()
    with get("ratings").session():
        table(torch.tensor([1, 3])).sum().backward()
        assert table.weight.grad.is_sparse
        step(None)
    assert (table.weight.detach() != before).any(1).tolist() == [False, True, False, True, False]


def test_a_torch_step_ends_when_the_device_has_finished():
    calls = []
    param = torch.nn.Parameter(torch.zeros(1))
    param.grad = torch.ones(1)
    step = TorchStepper(torch.optim.SGD([param], lr=0.5), wait=lambda: calls.append(param.item()))
    step(None)
    assert calls == [-0.5]


def test_a_step_waits_for_the_device_of_its_parameters(monkeypatch):
    calls = []
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda device=None: calls.append(device))
    param = torch.nn.Parameter(torch.empty(1, device="meta"))
    param.grad = torch.empty(1, device="meta")
    choice.make_stepper("torch-rmsprop", "torch", [param], lr=0.1)(None)
    assert calls == [torch.device("meta")]
    do_two_steps("torch", "torch-rmsprop")
    assert len(calls) == 1
