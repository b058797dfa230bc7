"""Promise: the state can be created early, shared between processes, and reset in place, for A3C and Hogwild."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from torch_helpers import ROUNDINGS, assert_same_bits, list_params, make_params, train

from rmsprop.torch import RMSprop

WORKERS, STEPS = 2, 150
OPTIONS = [
    {},
    {"momentum": 0.9, "centered": True},
    {"state_dtype": "8bit"},
    {"dialect": "tensorflow1", "momentum": 0.9, "centered": True},
]


def draw_regression():
    """Draw a line in four unknowns, noise-free, so that every worker has the same minimum."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 4, generator=generator)
    return x, x @ torch.tensor([[1.0], [-2.0], [0.5], [3.0]]) + 0.7


def make_shared(**options):
    torch.manual_seed(1)
    model = torch.nn.Linear(4, 1)
    model.share_memory()
    return model, RMSprop(model.parameters(), lr=0.005, **options).share_memory()


def compute_error(model):
    x, y = draw_regression()
    with torch.no_grad():
        return float(((model(x) - y) ** 2).mean())


def work(rank, model, optimizer, steps, lock=None):
    """Train as one Hogwild worker: gradients of its own, the weights and statistics of all."""
    torch.set_num_threads(1)
    x, y = draw_regression()
    generator = torch.Generator().manual_seed(rank)
    for _ in range(steps):
        rows = torch.randint(len(x), (32,), generator=generator)
        grads = torch.autograd.grad(((model(x[rows]) - y[rows]) ** 2).mean(), list(model.parameters()))
        for param, grad in zip(model.parameters(), grads):
            param.grad = grad
        if lock is not None:
            lock.acquire()
        optimizer.step()
        if lock is not None:
            lock.release()


def work_in_processes(method, model, optimizer, *, workers=WORKERS, steps=STEPS, locked=False):
    context = mp.get_context(method)
    lock = context.Lock() if locked else None
    processes = [context.Process(target=work, args=(rank, model, optimizer, steps, lock)) for rank in range(workers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * workers


def run_alone(check, *args):
    """Run a check of this file in its own process, so that no fork copies the threads of another test's JAX."""
    code = f"import test_torch_shared as tests; tests.{check.__name__}(*{args!r})"
    command = [sys.executable, "-c", code]
    process = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=200)
    assert process.returncode == 0, process.stderr


def list_state(optimizer):
    return [value for state in optimizer.state.values() for value in state.values()]


# ---- eager state and sharing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_eager_state_exists_before_the_first_step_and_changes_no_bit(options):
    eager, lazy = (RMSprop(make_params(), eager_state=flag, **options) for flag in (True, False))
    assert (len(eager.state), len(lazy.state)) == (len(make_params()), 0)
    before = {id(t) for t in list_state(eager)}
    train(eager, 5)
    train(lazy, 5)
    assert {id(t) for t in list_state(eager)} == before
    assert_same_bits(eager, lazy)


@pytest.mark.parametrize("eager_state", [True, False])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_share_memory_shares_every_tensor_of_the_state(options, eager_state):
    _, optimizer = make_shared(eager_state=eager_state, **options)
    assert len(optimizer.state) == 2
    assert all(t.is_shared() for t in list_state(optimizer))


def check_that_steps_add_up(method, options):
    model, optimizer = make_shared(**options)
    start, pointers = compute_error(model), [t.data_ptr() for t in list_state(optimizer)]
    work_in_processes(method, model, optimizer, locked=True)
    assert compute_error(model) < 0.1 * start
    assert [t.data_ptr() for t in list_state(optimizer)] == pointers
    for param in model.parameters():
        assert optimizer.state[param]["step"] == WORKERS * STEPS


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"momentum": 0.5}], ids=str)
def test_forked_workers_train_one_model_and_their_steps_add_up(options):
    run_alone(check_that_steps_add_up, "fork", options)


@pytest.mark.slow
def test_spawned_workers_train_one_model_and_their_steps_add_up():
    check_that_steps_add_up("spawn", OPTIONS[2])


def check_that_hogwild_converges():
    model, optimizer = make_shared()
    start = compute_error(model)
    work_in_processes("fork", model, optimizer)
    assert compute_error(model) < 0.1 * start
    assert all(torch.isfinite(t).all() for t in list_state(optimizer))
    for param in model.parameters():
        assert 1 <= optimizer.state[param]["step"] <= WORKERS * STEPS  # racing workers lose counts


@pytest.mark.slow
def test_hogwild_workers_without_a_lock_converge():
    run_alone(check_that_hogwild_converges)


@pytest.mark.slow
def test_one_worker_in_another_process_gives_the_bits_of_this_one():
    here, there = make_shared(momentum=0.9), make_shared(momentum=0.9)
    work(0, *here, STEPS)
    work_in_processes("spawn", *there, workers=1)
    assert_same_bits(here[1], there[1])


# ---- reset_state -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_reset_optimizer_is_like_a_new_one(options, rounding):
    options = {**options, "param_rounding": rounding, "lr": 0.01, "seed": 4}
    optimizer = RMSprop(make_params([(300,), (7,)], torch.bfloat16), **options)
    train(optimizer, 5)
    optimizer.reset_state()
    new = RMSprop(copy.deepcopy(list_params(optimizer)), **options)
    train(optimizer, 5)
    train(new, 5)
    assert_same_bits(optimizer, new)


def test_reset_covers_the_state_of_an_option_that_was_switched_off():
    optimizer = RMSprop(make_params(), momentum=0.9)
    train(optimizer, 5)
    optimizer.param_groups[0]["momentum"] = 0.0
    train(optimizer, 1)
    optimizer.reset_state()
    optimizer.param_groups[0]["momentum"] = 0.9
    new = RMSprop(copy.deepcopy(list_params(optimizer)), momentum=0.9)
    train(optimizer, 3)
    train(new, 3)
    assert_same_bits(optimizer, new)


def check_that_reset_keeps_sharing():
    for options in OPTIONS:
        model, optimizer = make_shared(**options)
        work_in_processes("fork", model, optimizer, workers=1, steps=5)
        before = [(id(t), t.data_ptr()) for t in list_state(optimizer)]
        assert all(s["step"] == 5 for s in optimizer.state.values())
        optimizer.reset_state()
        assert [(id(t), t.data_ptr()) for t in list_state(optimizer)] == before
        assert all(t.is_shared() for t in list_state(optimizer))
        _, new = make_shared(**options)
        assert all(torch.equal(a, b) for a, b in zip(list_state(optimizer), list_state(new), strict=True))


@pytest.mark.slow
def test_reset_works_in_place_and_keeps_sharing():
    run_alone(check_that_reset_keeps_sharing)


def test_a_reset_before_the_first_step_does_nothing():
    optimizer = RMSprop(make_params())
    optimizer.reset_state()
    assert not any(optimizer.state.get(p) for p in list_params(optimizer))
    train(optimizer, 1)
