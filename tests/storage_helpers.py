"""One step of the kernel on given arrays, and statistics of its rounding, for the tests of 16-bit and 8-bit storage.

A rule is a way to write any float32 in any format. With rho = 1 and mean_sq = 1 the denominator is 1. Then momentum 0.5
moves a parameter of 0 by half of the buffer, momentum 0 stores the gradient in the buffer, and rho = 0 the gradient's
square in mean_sq.
"""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
core = pytest.importorskip("rmsprop._core", reason="the compiled module is not installed")

from rmsprop import Rule, _step  # noqa: E402
from rmsprop.torch import RMSprop  # noqa: E402
from rmsprop.torch.state import BLOCK  # noqa: E402

assert RMSprop  # importing it lets torch's tensors into the kernel
assert BLOCK


@pytest.fixture(name="isa", params=core.isas())
def each_isa(request):
    """Run a test with each instruction set."""
    before = core.isa()
    core.set_isa(request.param)
    yield request.param
    core.set_isa(before)


def step_kernel(rule, param, grad, buffers, *, rounding="nearest", lr=1.0, seed=0, first=0, step=1, threads=1):
    """Do one step of the kernel, in place."""
    lists = tuple([buffer] for buffer in buffers)
    plan = core.Plan(_step.handle(rule, rounding=rounding), [param], lists, np.array([step - 1]), first=first)
    core.step(plan, [grad], _step.StepArgs(lr, lr, threads=threads, seed=seed))


def make_floats(bits):
    """Make a float32 tensor of these bits."""
    return torch.from_numpy(np.asarray(bits, np.uint32).view(np.float32).copy())


def read_words(x):
    """Return the 16-bit words of a bfloat16 or float16 tensor."""
    return x.view(torch.int16).numpy().view(np.uint16)


def write_param(x, dtype, *, rounding="nearest", lost=None, **options):
    """Return what the kernel stores for a parameter that becomes x: float32, infinity and NaN included."""
    rule = Rule(rho=1.0, eps=1.0, eps_mode="outside", buffer="unit", momentum=0.5)
    huge = x.abs() >= 2.0**126
    param = torch.zeros(x.shape, dtype=dtype)
    for mask, lr, factor in ((~huge, 1.0, -2.0), (huge, 2.0, -1.0)):  # so that doubling cannot overflow
        part = torch.zeros(x.shape, dtype=dtype)
        part_lost = torch.zeros(x.shape, dtype=torch.int16)
        buffers = [torch.ones(x.shape), torch.where(mask, x, 0.0) * factor]
        if rounding == "compensated":
            buffers.append(part_lost)
        step_kernel(rule, part, torch.zeros_like(part), buffers, rounding=rounding, lr=lr, **options)
        param = torch.where(mask, part, param)
        if lost is not None:
            lost.copy_(torch.where(mask, part_lost, lost))
    return param


def compute_z_scores(ups, count, chance):
    """Return how many standard deviations the numbers of values that were rounded up differ from what is expected."""
    sigma = np.sqrt(np.maximum(count * chance * (1 - chance), 1e-12))
    return (ups - count * chance) / sigma


def assert_unbiased(z):
    """Check the standard deviations of a few hundred independent counts; with fixed seeds the result never changes."""
    assert np.abs(z).max() < 5
    assert 0.6 < np.mean(z**2) < 1.5  # no worse, and no better, than independent draws
