"""What the tests of 16-bit and 8-bit storage share: a step of the kernel, what it writes, and what is fair.

A rule is a way to write any float32 into any format. With rho = 1 and mean_sq = 1 the denominator is 1; then momentum
0.5 brings half of what the buffer holds into a parameter of 0, momentum 0 the gradient into the buffer, and rho = 0 the
gradient's square into mean_sq.
"""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
core = pytest.importorskip("rmsprop._core", reason="the compiled module is not installed")

from rmsprop import Rule, _step  # noqa: E402
from rmsprop.torch import RMSprop  # noqa: E402
from rmsprop.torch import state as torch_state  # noqa: E402

assert RMSprop  # importing it lets torch's tensors into the kernel

ISAS = core.isas()
BLOCK = torch_state.BLOCK


@pytest.fixture(autouse=True)
def restore_isa():
    before = core.isa()
    yield
    core.set_isa(before)


def stepped(rule, param, grad, buffers, *, rounding="nearest", lr=1.0, seed=0, first=0, step=1, threads=1):
    """One step of the kernel, in place."""
    lists = tuple([buffer] for buffer in buffers)
    steps = np.array([step - 1])
    plan = core.Plan(_step.handle(rule, rounding=rounding), [param], lists, steps, first=first)
    core.step(plan, [grad], _step.StepArgs(lr, lr, threads=threads, seed=seed))


def floats(bits):
    """float32 tensor of these bits."""
    return torch.from_numpy(np.asarray(bits, np.uint32).view(np.float32).copy())


def words(x):
    """The 16-bit words of a bfloat16 or float16 tensor."""
    return x.view(torch.int16).numpy().view(np.uint16)


def written(x, dtype, *, rounding="nearest", lost=None, **options):
    """What the kernel stores for a parameter that becomes x (float32, magnitudes up to the largest or inf, NaN)."""
    rule = Rule(rho=1.0, eps=1.0, eps_mode="outside", buffer="unit", momentum=0.5)
    huge = x.abs() >= 2.0**126
    param = torch.zeros(x.shape, dtype=dtype)
    for mask, lr, factor in ((~huge, 1.0, -2.0), (huge, 2.0, -1.0)):  # so that doubling cannot overflow
        part = torch.zeros(x.shape, dtype=dtype)
        part_lost = torch.zeros(x.shape, dtype=torch.int16)
        buffers = [torch.ones(x.shape), torch.where(mask, x, 0.0) * factor]
        if rounding == "compensated":
            buffers.append(part_lost)
        stepped(rule, part, torch.zeros_like(part), buffers, rounding=rounding, lr=lr, **options)
        param = torch.where(mask, part, param)
        if lost is not None:
            lost.copy_(torch.where(mask, part_lost, lost))
    return param


def z_scores(ups, count, chance):
    """How many standard deviations a count of rounded up values is away from its expectation."""
    sigma = np.sqrt(np.maximum(count * chance * (1 - chance), 1e-12))
    return (ups - count * chance) / sigma


def assert_fair(z, note=""):
    """Standard deviations of some hundred independent counts; seeds are fixed, so this holds or fails for good."""
    assert np.abs(z).max() < 5, note
    assert 0.6 < np.mean(z**2) < 1.5, note  # no worse, and no better, than independent draws
