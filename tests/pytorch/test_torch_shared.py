"""Promise: the RL kit. State from the start, shared between real processes, and reset in place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp

from rmsprop.torch import RMSprop

WORKERS, STEPS = 2, 150
OPTIONS = [
    {},
    {"momentum": 0.9, "centered": True},
    {"state_dtype": "8bit"},
    {"dialect": "tensorflow1", "momentum": 0.9, "centered": True},
]


def regression():
    """A line in four unknowns, noise-free, so that every worker sees the same minimum."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 4, generator=generator)
    truth = torch.tensor([[1.0, -2.0, 0.5, 3.0]])
    return x, x @ truth.T + 0.7


def built(**options):
    torch.manual_seed(1)
    model = torch.nn.Linear(4, 1)
    model.share_memory()
    return model, RMSprop(model.parameters(), lr=0.005, eager_state=True, **options)


def error(model):
    x, y = regression()
    with torch.no_grad():
        return float(((model(x) - y) ** 2).mean())


def work(rank, model, optimizer, steps, lock=None):
    """One Hogwild worker: gradients of its own, the weights and statistics of all."""
    torch.set_num_threads(1)
    x, y = regression()
    generator = torch.Generator().manual_seed(rank)
    for _ in range(steps):
        rows = torch.randint(len(x), (32,), generator=generator)
        grads = torch.autograd.grad(((model(x[rows]) - y[rows]) ** 2).mean(), list(model.parameters()))
        for param, grad in zip(model.parameters(), grads):
            param.grad = grad
        if lock is None:
            optimizer.step()
        else:
            with lock:
                optimizer.step()


def in_processes(method, model, optimizer, *, locked=False):
    context = mp.get_context(method)
    lock = context.Lock() if locked else None
    workers = [context.Process(target=work, args=(rank, model, optimizer, STEPS, lock)) for rank in range(WORKERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * WORKERS


def alone(check, *args):
    """Run a check of this file in a process of its own: no fork copies the threads that another test's JAX started."""
    code = f"import test_torch_shared as tests; tests.{check.__name__}(*{args!r})"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr


def tensors(optimizer):
    return [value for state in optimizer.state.values() for value in state.values()]


# ---- eager state -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_eager_state_is_there_before_the_first_step_and_changes_no_bit(options):
    found = []
    for eager in (True, False):
        torch.manual_seed(1)
        model = torch.nn.Linear(4, 1)
        optimizer = RMSprop(model.parameters(), lr=0.01, eager_state=eager, **options)
        assert len(optimizer.state) == (2 if eager else 0)
        before = {id(t) for t in tensors(optimizer)}
        work(0, model, optimizer, 5)
        if eager:
            assert {id(t) for t in tensors(optimizer)} == before
        found.append([*model.parameters(), *tensors(optimizer)])
    assert all(torch.equal(a, b) for a, b in zip(*found))


# ---- sharing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_share_memory_shares_every_tensor_of_the_state(options):
    _, optimizer = built(**options)
    assert optimizer.share_memory() is optimizer
    assert tensors(optimizer)
    assert all(t.is_shared() for t in tensors(optimizer))


def test_share_memory_creates_the_state_that_is_missing():
    model = torch.nn.Linear(4, 1)
    optimizer = RMSprop(model.parameters())
    optimizer.share_memory()
    assert len(optimizer.state) == 2
    assert all(t.is_shared() for t in tensors(optimizer))


def check_that_steps_add_up(method, options):
    model, optimizer = built(**options)
    optimizer.share_memory()
    start, kept = error(model), [t.data_ptr() for t in tensors(optimizer)]
    in_processes(method, model, optimizer, locked=True)
    assert error(model) < 0.1 * start
    assert [t.data_ptr() for t in tensors(optimizer)] == kept
    for param in model.parameters():
        assert optimizer.state[param]["step"] == WORKERS * STEPS


@pytest.mark.parametrize("options", [{}, {"momentum": 0.5}], ids=str)
def test_forked_workers_train_one_model_and_their_steps_add_up(options):
    alone(check_that_steps_add_up, "fork", options)


def test_spawned_workers_train_one_model_and_their_steps_add_up():
    check_that_steps_add_up("spawn", OPTIONS[2])


def check_that_hogwild_converges():
    model, optimizer = built()
    optimizer.share_memory()
    start = error(model)
    in_processes("fork", model, optimizer)
    assert error(model) < 0.1 * start
    assert all(torch.isfinite(t).all() for t in tensors(optimizer))
    for param in model.parameters():
        assert STEPS <= optimizer.state[param]["step"] <= WORKERS * STEPS


def test_hogwild_workers_without_a_lock_converge():
    alone(check_that_hogwild_converges)


def test_one_worker_in_another_process_gives_the_bits_of_this_one():
    found = []
    for method in (None, "spawn"):
        model, optimizer = built(momentum=0.9)
        optimizer.share_memory()
        if method is None:
            work(0, model, optimizer, STEPS)
        else:
            process = mp.get_context(method).Process(target=work, args=(0, model, optimizer, STEPS))
            process.start()
            process.join(120)
            assert process.exitcode == 0
        found.append([*model.parameters(), *tensors(optimizer)])
    assert all(torch.equal(a, b) for a, b in zip(*found))


# ---- reset_state -----------------------------------------------------------------------------------------------------


def unbounded(dtype, **options):
    generator = torch.Generator().manual_seed(2)
    params = [torch.nn.Parameter(torch.randn(n, generator=generator).to(dtype)) for n in (300, 7)]
    return params, RMSprop(params, lr=0.01, seed=4, **options)


def step_all(params, optimizer, count):
    generator = torch.Generator().manual_seed(3)
    for _ in range(count):
        for param in params:
            param.grad = torch.randn(param.shape, generator=generator).to(param.dtype)
        optimizer.step()


@pytest.mark.parametrize("rounding", ["nearest", "stochastic", "compensated"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_reset_optimizer_is_a_fresh_one(options, rounding):
    params, optimizer = unbounded(torch.bfloat16, param_rounding=rounding, **options)
    step_all(params, optimizer, 5)
    optimizer.reset_state()
    fresh, other = unbounded(torch.bfloat16, param_rounding=rounding, **options)
    for mine, theirs in zip(params, fresh):
        theirs.data.copy_(mine.data)
    step_all(params, optimizer, 5)
    step_all(fresh, other, 5)
    for mine, theirs in zip(params, fresh):
        assert torch.equal(mine, theirs)
        assert optimizer.state[mine].keys() == other.state[theirs].keys()
        for key, value in optimizer.state[mine].items():
            assert torch.equal(value, other.state[theirs][key]), key


def test_what_an_option_has_left_behind_is_reset_too():
    params, optimizer = unbounded(torch.float32, momentum=0.9)
    step_all(params, optimizer, 5)
    optimizer.param_groups[0]["momentum"] = 0.0
    step_all(params, optimizer, 1)
    optimizer.reset_state()
    optimizer.param_groups[0]["momentum"] = 0.9
    fresh, other = unbounded(torch.float32, momentum=0.9)
    for mine, theirs in zip(params, fresh):
        theirs.data.copy_(mine.data)
    step_all(params, optimizer, 3)
    step_all(fresh, other, 3)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(params, fresh))


def check_that_reset_keeps_sharing(options):
    model, optimizer = built(**options)
    optimizer.share_memory()
    process = mp.get_context("fork").Process(target=work, args=(0, model, optimizer, 5))
    process.start()
    process.join(120)
    assert process.exitcode == 0
    before = [(id(t), t.data_ptr()) for t in tensors(optimizer)]
    assert all(s["step"] == 5 for s in optimizer.state.values())
    optimizer.reset_state()
    assert [(id(t), t.data_ptr()) for t in tensors(optimizer)] == before
    assert all(t.is_shared() for t in tensors(optimizer))
    _, fresh = built(**options)
    assert all(torch.equal(a, b) for a, b in zip(tensors(optimizer), tensors(fresh)))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_reset_happens_in_place_and_keeps_sharing(options):
    alone(check_that_reset_keeps_sharing, options)


def test_a_reset_before_the_first_step_does_nothing():
    params, optimizer = unbounded(torch.float32)
    optimizer.reset_state()
    assert not any(optimizer.state.get(p) for p in params)
    step_all(params, optimizer, 1)
