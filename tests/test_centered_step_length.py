"""Promise: under a gradient that hardly changes a centered step stays below lr / sqrt(u), in every front end.

u is the unit roundoff of the arithmetic: 2**-24 in float32 (16-bit arrays are computed in it), 2**-53 in float64. The
variance of a constant gradient fades to 0; an implementation that divides by what is left makes steps of 10**8 lr.
"""

from __future__ import annotations

import numpy as np
import pytest

import rmsprop
from rmsprop import Rule, formula

torch = pytest.importorskip("torch", reason="torch is not installed")
jax = pytest.importorskip("jax", reason="jax is not installed")

import rmsprop.jax  # noqa: E402
import rmsprop.torch  # noqa: E402

LR, STEPS = 1e-3, 500
GRADIENT = np.geomspace(0.1, 10, 64)
RULE = rmsprop.dialect("torch", rho=0.9, centered=True)
LONGEST = {"float32": 2.0**12, "float64": 2.0**26.5}


def run_numpy(dtype):
    param, grad = np.zeros(64, dtype), GRADIENT.astype(dtype)
    optimizer = rmsprop.RMSprop(param, lr=LR, dialect=RULE)
    for _ in range(STEPS):
        param[...] = 0
        optimizer.step(grad)
        yield param.copy()


def run_formula(dtype):
    zero, grad = np.zeros(64, dtype), GRADIENT.astype(dtype)
    state = {name: np.zeros(64, dtype) for name in RULE.buffers}
    for _ in range(STEPS):
        param, state = formula.step(zero, grad, state, RULE, lr=LR)
        yield param


def run_torch(dtype, **options):
    param = torch.nn.Parameter(torch.zeros(64, dtype=getattr(torch, dtype)))
    optimizer = rmsprop.torch.RMSprop([param], lr=LR, dialect=RULE, **options)
    param.grad = torch.from_numpy(GRADIENT).to(param.dtype)
    for _ in range(STEPS):
        param.data.zero_()
        optimizer.step()
        yield param.detach().double().numpy()


def run_jax(dtype):
    if dtype == "float64":
        pytest.skip("float64 is a switch of the whole process in JAX")
    tx = rmsprop.jax.rmsprop(LR, dialect=RULE)
    grad = jax.numpy.asarray(GRADIENT, dtype)
    state, update = tx.init(grad), jax.jit(tx.update)
    for _ in range(STEPS):
        change, state = update(grad, state)
        yield np.asarray(change)


FRONT_ENDS = {
    "formula": run_formula,
    "numpy": run_numpy,
    "torch": run_torch,
    "torch, general": lambda dtype: run_torch(dtype, capturable=True),
    "jax": run_jax,
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("run", FRONT_ENDS.values(), ids=FRONT_ENDS)
def test_no_step_is_longer_than_the_roundoff_allows(run, dtype):
    lengths = [np.abs(move).max() / LR for move in run(dtype)]
    assert max(lengths) <= LONGEST[dtype]
    assert max(lengths) > LONGEST[dtype] / 4  # the variance does fade: the floor is what holds


@pytest.mark.parametrize("options", [{}, {"param_rounding": "stochastic"}, {"state_dtype": "bfloat16"}], ids=str)
def test_no_step_of_bfloat16_parameters_is_longer_than_2_to_the_13_lr(options):
    lengths = [np.abs(move).max() / LR for move in run_torch("bfloat16", **options)]
    assert max(lengths) <= 2.0**13


def test_the_floor_changes_no_bit_where_the_variance_is_larger():
    rng = np.random.default_rng(0)
    grads = (1 + 0.1 * rng.standard_normal((200, 64))).astype("float32")
    mean, variance = np.zeros(64, "float32"), np.zeros(64, "float32")
    optimizer = rmsprop.RMSprop(np.zeros(64, "float32"), lr=LR, dialect=Rule(centered=True))
    for grad in grads:
        optimizer.step(grad)
        deviation = grad - mean
        move = np.float32(1 - 0.9) * deviation
        mean = mean + move
        variance = np.float32(0.9) * (variance + move * deviation)
    assert optimizer.buffers["grad_var"][0].tobytes() == variance.tobytes()
