"""Promise: a compensated bfloat16 and its lost bits are the float32, to the last of them."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
core = pytest.importorskip("rmsprop._core", reason="the compiled module is not installed")

from rmsprop import Rule  # noqa: E402
from storage_helpers import (  # noqa: E402
    ISAS,
    floats,
    restore_isa,  # noqa: F401
    stepped,
    words,
    written,
)


def bits_of(x):
    return x.detach().numpy().view(np.uint32)


def master(param, lost):
    """The float32 that a bfloat16 and its lost bits stand for, by the definition."""
    signed = lost.numpy().astype(np.int64)
    return ((words(param).astype(np.int64) << 16) + signed).astype(np.uint32)


UPPER = [0x3F80, 0xBF80, 0x3FFF, 0x0000, 0x8000, 0x0001, 0x8001, 0x007F, 0x0080, 0x7F7E, 0xFF7E, 0x42C8]


@pytest.mark.parametrize("isa", ISAS)
def test_compensated_keeps_every_one_of_the_lost_bit_patterns(isa):
    core.set_isa(isa)
    for upper in UPPER:
        bits = np.uint32(upper) << np.uint32(16) | np.arange(2**16, dtype=np.uint32)
        x = floats(bits)
        if upper in (0x0000, 0x8000, 0x0001, 0x8001, 0x007F):  # halving the buffer would round a subnormal
            x = floats(bits & 0xFFFFFFFE)
        lost = torch.zeros(2**16, dtype=torch.int16)
        param = written(x, torch.bfloat16, rounding="compensated", lost=lost)
        wanted = bits_of(x).copy()
        wanted[wanted == 0x80000000] = 0  # 0 - 0 is +0
        assert np.array_equal(master(param, lost), wanted), hex(upper)
        # The bfloat16 by itself is a nearest one: at most half a spacing away.
        assert (np.abs(lost.numpy().astype(int)) <= 0x8000).all()
        # And what was written is read back: a step of nothing changes no bit.
        before = (words(param).copy(), lost.numpy().copy())
        stepped(Rule(rho=1.0, eps=1.0), param, torch.zeros_like(param), [torch.ones(2**16), lost],
                rounding="compensated")  # fmt: skip
        assert np.array_equal(words(param), before[0])
        assert np.array_equal(lost.numpy(), before[1])


@pytest.mark.parametrize("isa", ISAS)
def test_compensated_weights_are_the_float32_run_bit_for_bit(isa):
    core.set_isa(isa)
    rule = Rule(rho=0.9, eps=1e-8, buffer="unit", momentum=0.9, weight_decay=0.01, weight_decay_mode="decoupled")
    rng = np.random.default_rng(7)
    n = 5000
    start = rng.integers(0, 0x7F000000, n).astype(np.uint32) | (rng.integers(0, 2, n).astype(np.uint32) << 31)
    start[: n // 2] = bits_of(torch.from_numpy(rng.standard_normal(n // 2).astype("float32")))
    single = floats(start)
    lost = torch.zeros(n, dtype=torch.int16)
    param = written(single, torch.bfloat16, rounding="compensated", lost=lost)
    single = floats(master(param, lost))
    ours, theirs = [torch.zeros(n), torch.zeros(n)], [torch.zeros(n), torch.zeros(n)]
    for step in range(1, 40):
        grad = torch.from_numpy(rng.standard_normal(n).astype("float32")).bfloat16()
        stepped(rule, param, grad, [*ours, lost], rounding="compensated", lr=1e-3, step=step)
        stepped(rule, single, grad.float(), theirs, lr=1e-3, step=step)
        assert np.array_equal(master(param, lost), bits_of(single)), step


def test_compensated_cuts_at_the_largest_bfloat16_and_a_half():
    x = floats([0x7F7F7FFF, 0x7F7F8000, 0x7F7FFFFF, 0xFF7F7FFF, 0xFF7FFFFF])
    lost = torch.zeros(5, dtype=torch.int16)
    param = written(x, torch.bfloat16, rounding="compensated", lost=lost)
    assert np.array_equal(master(param, lost), [0x7F7F7FFF] * 3 + [0xFF7F7FFF] * 2)
    assert torch.isfinite(param).all()


@pytest.mark.parametrize("isa", ISAS)
def test_compensated_takes_a_parameter_that_somebody_else_has_written(isa):
    core.set_isa(isa)
    new = torch.tensor([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0]).bfloat16()
    for bits in (-32768, -1, 1, 32767):
        param, lost = new.clone(), torch.full((6,), bits, dtype=torch.int16)
        stepped(Rule(rho=1.0, eps=1.0), param, torch.zeros_like(param), [torch.ones(6), lost], rounding="compensated")
        assert torch.equal(param.float()[:4].abs(), new.float()[:4].abs()), bits
        assert torch.isnan(param[4])
        assert abs(float(param[5]) - 1.0) <= 2.0**-7
