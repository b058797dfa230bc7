"""Promise: every 8-bit code is read, written and rounded as documented."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
core = pytest.importorskip("rmsprop._core", reason="the compiled module is not installed")

from rmsprop import Rule  # noqa: E402
from rmsprop.torch.state import _decode, _encode  # noqa: E402
from storage_helpers import (  # noqa: E402
    BLOCK,
    assert_unbiased,
    compute_z_scores,
    each_isa,  # noqa: F401
    step_kernel,
)

TOPS = [1.0, 1.9999999, 3e-5, 7e20, 3.4028235e38, 2.0**-62, 2.0**-63, 1e-30, 1.1754944e-38, 1e-42, 2.0**-149]
CODES = np.arange(256, dtype=np.uint8)


def decode(codes, top):
    """Return the values of 8-bit codes by definition: bits(top) - (255 - code) * step, and 0 for code 0."""
    step = (40 << 23) // 254
    bits = int(np.float32(top).view(np.int32)) - (255 - codes.astype(np.int64)) * step
    return np.where(codes == 0, 0, np.maximum(bits, 1)).astype(np.uint32).view(np.float32)


def step_unchanged(codes, top, *, seed=0, step=1):
    """Return codes and maximum after a step that does not change mean_sq."""
    codes, top = torch.from_numpy(codes.copy()), torch.tensor([top])
    zeros = torch.zeros(codes.shape)
    step_kernel(Rule(rho=1.0, eps=1.0), zeros, zeros.clone(), [codes, top], seed=seed, step=step)
    return codes.numpy(), float(top)


def encode(values, **options):
    """Return (codes, maxima, mean_sq): what the kernel stores for the squares of `values`, and the squares."""
    param, codes = torch.zeros(values.shape), torch.zeros(values.shape, dtype=torch.uint8)
    top = torch.zeros(-(-values.numel() // BLOCK))
    step_kernel(Rule(rho=0.0, eps=1.0), param, values, [codes, top], **options)
    return codes.numpy(), top.numpy(), (values * values).numpy()


def find_neighbors(square, top):
    """Return (lower code, lower value, upper value) for each square, by search in the sorted table of all codes."""
    table = decode(CODES[1:], top)
    below = np.clip(np.searchsorted(table, square, side="right") - 1, 0, 253)
    return below + 1, table[below], table[below + 1]


def test_the_codes_are_sorted_and_span_forty_octaves_in_steps_of_8_to_16_percent():
    for top in (t for t in TOPS if t > 2.0**-80):
        values = decode(CODES, top).astype(float)
        assert values[0] == 0.0
        assert values[255] == np.float32(top)
        assert (np.diff(values) > 0).all()
        ratios = values[2:] / values[1:-1]
        assert ratios.min() > 1.08
        assert ratios.max() < 1.17
        assert values[1] / values[255] == pytest.approx(2.0**-40, rel=1e-3)


@pytest.mark.parametrize("top", TOPS)
def test_a_step_that_changes_nothing_keeps_every_code(top, isa):
    top = float(np.float32(top))
    values = decode(CODES, top)
    unique = np.ones(256, bool)
    unique[1:] = values[1:] != values[:-1]  # codes below the smallest subnormal mean that subnormal
    for seed in range(5):
        codes, new_top = step_unchanged(CODES, top, seed=seed)
        assert new_top == top
        assert np.array_equal(decode(codes, top), values)
        assert (codes == CODES)[unique & np.roll(unique, -1)].all()


@pytest.mark.parametrize("top", [t for t in TOPS if t > 1e-37])
def test_the_kernel_reads_every_code_as_defined(top, isa):
    codes = CODES[1:]
    param, grad = torch.zeros(255), torch.ones(255)
    buffers = [torch.from_numpy(codes.copy()), torch.tensor([top])]
    step_kernel(Rule(rho=1.0, eps=0.0), param, grad, buffers)
    expected = np.float32(0) - np.float32(1) / np.sqrt(decode(codes, top))
    assert np.array_equal(param.numpy(), expected)


@pytest.mark.parametrize("top", TOPS)
def test_python_reads_and_writes_the_kernels_codes(top):
    top = float(np.float32(top))
    values = _decode(torch.from_numpy(CODES), torch.tensor([top]))
    assert np.array_equal(values.numpy(), decode(CODES, top))
    codes, maxima = _encode(values)
    assert maxima.tolist() == [top]
    assert np.array_equal(decode(codes.numpy(), top), decode(CODES, top))
    if top > 2.0**-80:
        assert np.array_equal(codes.numpy(), CODES)


def test_python_writes_the_nearer_of_two_neighbors_and_no_zero():
    rng = np.random.default_rng(0)
    values = (rng.standard_normal(256) ** 2 * 2.0 ** rng.uniform(-60, 0, 256)).astype("float32")
    values[::17] = 0.0
    codes, maxima = (t.numpy() for t in _encode(torch.from_numpy(values)))
    low_code, low, high = find_neighbors(values, maxima[0])
    assert np.array_equal(codes == 0, values == 0)
    inside = values > low
    expected = np.where(values - low < high - values, low_code, low_code + 1)
    assert (abs(codes.astype(int) - expected)[inside] <= 1).all()
    # Nearest by the bits; between two codes bits and values differ by less than a tenth of the step.
    clear = inside & (abs((values - low) / (high - low) - 0.5) > 0.1)
    assert np.array_equal(codes[clear], expected[clear])
    assert (codes[~inside & (values > 0)] == 1).all()


def test_a_mean_square_becomes_one_of_its_two_neighbors_and_zero_only_if_it_is_zero(isa):
    rng = np.random.default_rng(1)
    n = 400 * BLOCK
    for center in (0, 40, -30, -60):
        values = rng.standard_normal(n) * 2.0 ** (rng.uniform(-32, 0, n) + center)
        values[rng.random(n) < 0.05] = 0.0
        codes, tops, square = encode(torch.from_numpy(values.astype("float32")))
        for block, top in enumerate(tops):
            part = slice(block * BLOCK, (block + 1) * BLOCK)
            assert top == square[part].max()
            below, low, _ = find_neighbors(square[part], top)
            assert np.array_equal(codes[part] == 0, square[part] == 0)
            nonzero = square[part] > 0
            under = nonzero & (square[part] < low)
            assert (codes[part][under] == 1).all()
            exact = square[part] == low
            allowed = (codes[part] == below) | ((codes[part] == below + 1) & ~exact)
            # The distance to the maximum is counted in float32: within a ten-thousandth of a step of a code, the next
            # pair may have been taken.
            table = decode(CODES[1:], top).astype(float)
            near = (abs(square[part][:, None].astype(float) / table - 1) < 2e-5).any(1)
            assert (allowed | near)[nonzero].all()


@pytest.mark.parametrize(("scale", "octaves"), [(1.0, 19), (1e-12, 19), (2.0**-60, 10), (2.0**-66, 4)])
def test_rounding_to_codes_is_unbiased_down_to_subnormal_numbers(scale, octaves):
    rng = np.random.default_rng(2)
    one = np.append(2.0 ** rng.uniform(-octaves, 0, BLOCK - 1), 1.0).astype("float32") * np.float32(scale)
    repeats = 2000
    codes, tops, square = encode(torch.from_numpy(np.tile(one, repeats)), seed=3)
    square, top = square[:BLOCK], tops[0]
    below, low, high = find_neighbors(square, top)
    apart = high > low  # below the smallest subnormal codes coincide
    chance = (square.astype(float) - low) / np.where(apart, high.astype(float) - low, 1.0)
    ups = (codes.reshape(repeats, BLOCK) == below + 1).sum(0)
    clear = apart & (chance > 0.02) & (chance < 0.98)
    assert clear.sum() > 100
    assert_unbiased(compute_z_scores(ups, repeats, chance)[clear])


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf], ids=["nan", "-nan", "inf", "-inf"])
def test_a_value_that_is_not_finite_does_not_change_the_rest_of_its_block(bad, isa):
    grad = torch.linspace(0.1, 1, 300)
    broken = grad.clone()
    broken[[3, 280]] = float(np.copysign(bad, -1.0 if str(bad).startswith("-") else 1.0))
    rule = Rule(rho=0.9, eps=1e-8)
    rest = np.delete(np.arange(300), [3, 280])
    results = []
    for first in (grad, broken):
        param, codes, top = torch.zeros(300), torch.zeros(300, dtype=torch.uint8), torch.zeros(2)
        step_kernel(rule, param, first, [codes, top])
        step_kernel(rule, param, grad, [codes, top], step=2)
        assert torch.isfinite(top).all()
        results.append((param.numpy()[rest], codes.numpy()[rest], param.numpy()[[3, 280]]))
    assert np.array_equal(results[0][0], results[1][0])
    assert np.array_equal(results[0][1], results[1][1])
    assert np.isnan(results[1][2]).all()
