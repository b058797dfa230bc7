"""Promise: every 8-bit code is read, written and rounded as documented: a reference in NumPy gives the same bits."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
core = pytest.importorskip("rmsprop._core", reason="the compiled module is not installed")

from rmsprop import Rule, formula  # noqa: E402
from rmsprop.torch.state import _encode, decode_codes  # noqa: E402
from storage_helpers import (  # noqa: E402
    BLOCK,
    assert_unbiased,
    compute_z_scores,
    each_isa,  # noqa: F401
    read_words,
    step_kernel,
)

BITS = 20
SCALES = [1.0, 1.875, 3.0517578125e-05, 2.0**70, 1.875 * 2.0**127, 2.0**-62, 2.0**-90]
CODES = np.arange(256, dtype=np.uint8)
UINT32, UINT64 = np.uint32, np.uint64


# ---- the reference ---------------------------------------------------------------------------------------------------


def find_base(largest):
    """Return what is added to a block's codes: the least multiple of 2**20 not below its largest bits is code 255."""
    bits = int(np.float32(largest).view(UINT32))
    return min(max(-(-bits // 2**BITS), 255), 0x7F7) - 255


def decode(codes, base):
    bits = (codes.astype(np.int64) + base) << BITS
    return np.where(codes == 0, 0, bits).astype(UINT32).view(np.float32)


def encode(values, base, random):
    bits = values.view(UINT32).astype(np.int64)
    most = np.minimum(bits, (base + 255) << BITS) + (random & (2**BITS - 1)).astype(np.int64)
    return np.where(bits == 0, 0, np.maximum(most >> BITS, base + 1) - base).astype(np.uint8)


def mix(x):
    """SplitMix64's finalizer, as `mixed` and `block_key` use it."""
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    return (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64


def draw_block(seed, step, block, n):
    """Return the 32 random bits of each of the first n elements of a block's parameter."""

    def mixed(x):
        x = mix((x + 0x9E3779B97F4A7C15) % 2**64)
        return x ^ (x >> 31)

    key = mixed(mixed(mixed(seed)) + step)
    block_key = mix((key + 0x9E3779B97F4A7C15 * (block * 4 + 1)) % 2**64) >> 32
    with np.errstate(over="ignore"):
        x = np.arange(n, dtype=UINT32) + UINT32(block_key)
        x ^= x >> UINT32(16)
        x *= UINT32(0x21F0AAAD)
        x ^= x >> UINT32(15)
        x *= UINT32(0x735A2D97)
        return x ^ (x >> UINT32(15))


def step_reference(rule, param, grad, codes, bases, *, seed, step, lr):
    """Decode, step in float32 and encode, block by block; return (param, codes, bases)."""
    param, codes, bases = param.copy(), codes.copy(), list(bases)
    n = formula.numbers_of(rule, lr=lr, step=step)
    for block in range(len(bases)):
        part = slice(block * BLOCK, (block + 1) * BLOCK)
        before = {"mean_sq": decode(codes[part], bases[block])}
        param[part], after = formula.step_with(param[part], grad[part], before, rule, n, xp=np)
        square = after["mean_sq"]
        bases[block] = find_base(square[np.isfinite(square)].max(initial=0))
        codes[part] = encode(square, bases[block], draw_block(seed, step, block, square.size))
    return param, codes, bases


# ---- the kernel beside it --------------------------------------------------------------------------------------------

RULES = [
    Rule(rho=0.9, eps=1e-8),
    Rule(rho=0.99, eps=1e-8, eps_mode="outside", weight_decay=0.1, weight_decay_mode="l2"),
    Rule(rho=0.9, eps=1e-3, eps_mode="max", bias_correction=True),
    Rule(rho=0.9, eps=1e-8, weight_decay=0.1, weight_decay_mode="decoupled", maximize=True),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.eps_mode + rule.weight_decay_mode)
@pytest.mark.parametrize("n", [1, 255, 256, 257, 1000])
def test_steps_have_the_bits_of_the_reference(rule, n, isa):
    rng = np.random.default_rng(n)
    param = rng.standard_normal(n).astype("float32")
    mine, codes = torch.from_numpy(param.copy()), torch.zeros(n, dtype=torch.uint8)
    scales = torch.zeros(-(-n // BLOCK))
    expected = (param, codes.numpy().copy(), [0] * len(scales))
    for step in range(1, 6):
        grad = (rng.standard_normal(n) * 2.0 ** rng.uniform(-20, 5, n)).astype("float32")
        step_kernel(rule, mine, torch.from_numpy(grad), [codes, scales], lr=0.01, seed=7, step=step)
        expected = step_reference(rule, expected[0], grad, *expected[1:], seed=7, step=step, lr=0.01)
        np.testing.assert_array_equal(mine.numpy(), expected[0])
        np.testing.assert_array_equal(codes.numpy(), expected[1])
        np.testing.assert_array_equal([find_base(scale) for scale in scales.numpy()], expected[2])


def write_codes(values, **options):
    """Return (codes, bases, mean_sq): what the kernel stores for the squares of `values`, and the squares."""
    param, codes = torch.zeros(values.shape), torch.zeros(values.shape, dtype=torch.uint8)
    scales = torch.zeros(-(-values.numel() // BLOCK))
    step_kernel(Rule(rho=0.0, eps=1.0), param, values, [codes, scales], **options)
    return codes.numpy(), [find_base(scale) for scale in scales.numpy()], (values * values).numpy()


def find_neighbors(square, base):
    """Return (lower code, lower value, upper value) for each square, by search in the sorted table of all codes."""
    table = decode(CODES[1:], base)
    below = np.clip(np.searchsorted(table, square, side="right") - 1, 0, 253)
    return below + 1, table[below], table[below + 1]


def test_the_codes_are_sorted_and_span_nearly_32_octaves_in_steps_of_6_to_13_percent():
    for scale in (t for t in SCALES if t > 2.0**-80):
        values = decode(CODES, find_base(scale)).astype(float)
        assert values[0] == 0.0
        assert values[255] == np.float32(scale)
        ratios = values[2:] / values[1:-1]
        assert ratios.min() > 1.06
        assert ratios.max() < 1.13
        assert 31 < np.log2(values[255] / values[1]) < 32


@pytest.mark.parametrize("scale", SCALES)
def test_a_step_that_changes_nothing_keeps_every_code(scale, isa):
    for seed in range(5):
        codes, scales = torch.from_numpy(CODES.copy()), torch.tensor([scale])
        zeros = torch.zeros(codes.shape)
        step_kernel(Rule(rho=1.0, eps=1.0), zeros, zeros.clone(), [codes, scales], seed=seed)
        assert scales.tolist() == [np.float32(scale)]
        np.testing.assert_array_equal(codes.numpy(), CODES)


@pytest.mark.parametrize("scale", SCALES)
def test_the_kernel_reads_every_code_as_defined(scale, isa):
    codes = CODES[1:]
    param, grad = torch.zeros(255), torch.ones(255)
    step_kernel(Rule(rho=1.0, eps=0.0), param, grad, [torch.from_numpy(codes.copy()), torch.tensor([scale])])
    expected = np.float32(0) - np.float32(1) / np.sqrt(decode(codes, find_base(scale)))
    np.testing.assert_array_equal(param.numpy(), expected)


@pytest.mark.parametrize("scale", SCALES)
def test_torch_reads_and_writes_the_kernels_codes(scale):
    values = decode_codes(torch.from_numpy(CODES), torch.full((256,), scale))
    np.testing.assert_array_equal(values.numpy(), decode(CODES, find_base(scale)))
    codes, scales = _encode(values)
    assert scales.tolist() == [np.float32(scale)]
    np.testing.assert_array_equal(codes.numpy(), CODES)


def test_torch_writes_the_nearer_of_two_neighbors_and_no_zero():
    rng = np.random.default_rng(0)
    values = (rng.standard_normal(256) ** 2 * 2.0 ** rng.uniform(-60, 0, 256)).astype("float32")
    values[::17] = 0.0
    codes, scales = (t.numpy() for t in _encode(torch.from_numpy(values)))
    low_code, low, high = find_neighbors(values, find_base(scales[0]))
    np.testing.assert_array_equal(codes == 0, values == 0)
    inside = values > low
    expected = np.where(values - low < high - values, low_code, low_code + 1)
    np.testing.assert_array_equal(codes[inside], expected[inside])
    assert (codes[~inside & (values > 0)] == 1).all()


def test_a_mean_square_becomes_one_of_its_two_neighbors_and_zero_only_if_it_is_zero(isa):
    rng = np.random.default_rng(1)
    n = 400 * BLOCK
    for center in (0, 40, -30, -60):
        values = rng.standard_normal(n) * 2.0 ** (rng.uniform(-32, 0, n) + center)
        values[rng.random(n) < 0.05] = 0.0
        codes, bases, squares = write_codes(torch.from_numpy(values.astype("float32")))
        for block, base in enumerate(bases):
            part = slice(block * BLOCK, (block + 1) * BLOCK)
            square, code = squares[part], codes[part]
            assert base == find_base(square.max())
            below, low, _ = find_neighbors(square, base)
            np.testing.assert_array_equal(code == 0, square == 0)
            nonzero = square > 0
            assert (code[nonzero & (square < low)] == 1).all()
            allowed = (code == below) | ((code == below + 1) & (square != low))
            assert allowed[nonzero].all()


@pytest.mark.parametrize(("scale", "octaves"), [(1.0, 15), (1e-12, 15), (2.0**-55, 10)])
def test_rounding_to_codes_is_unbiased(scale, octaves):
    rng = np.random.default_rng(2)
    one = np.append(2.0 ** rng.uniform(-octaves, 0, BLOCK - 1), 1.0).astype("float32") * np.float32(scale)
    repeats = 2000
    codes, bases, square = write_codes(torch.from_numpy(np.tile(one, repeats)), seed=3)
    square = square[:BLOCK]
    below, low, high = find_neighbors(square, bases[0])
    chance = (square.astype(float) - low) / (high.astype(float) - low)
    ups = (codes.reshape(repeats, BLOCK) == below + 1).sum(0)
    clear = (chance > 0.02) & (chance < 0.98)
    assert clear.sum() > 100
    assert_unbiased(compute_z_scores(ups, repeats, chance)[clear])


def test_the_rounding_of_a_parameter_and_of_its_code_are_not_correlated():
    n = 400 * BLOCK
    grad = torch.full((n,), 1.1)
    param, codes, scales = torch.ones(n).bfloat16(), torch.zeros(n, dtype=torch.uint8), torch.zeros(n // BLOCK)
    step_kernel(Rule(rho=0.0, eps=0.0), param, grad.bfloat16(), [codes, scales], rounding="stochastic", lr=0.003)
    words, codes = read_words(param), codes.numpy()
    ups = [(words == words.max()).astype(float), (codes == codes.max()).astype(float)]
    assert all(0.05 < x.mean() < 0.95 for x in ups)
    assert abs(np.corrcoef(ups)[0, 1]) < 5 / np.sqrt(n)


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf], ids=["nan", "-nan", "inf", "-inf"])
def test_a_value_that_is_not_finite_does_not_change_the_rest_of_its_block(bad, isa):
    grad = torch.linspace(0.1, 1, 300)
    broken = grad.clone()
    broken[[3, 280]] = float(np.copysign(bad, -1.0 if str(bad).startswith("-") else 1.0))
    rule = Rule(rho=0.9, eps=1e-8)
    rest = np.delete(np.arange(300), [3, 280])
    results = []
    for first in (grad, broken):
        param, codes, scales = torch.zeros(300), torch.zeros(300, dtype=torch.uint8), torch.zeros(2)
        step_kernel(rule, param, first, [codes, scales])
        step_kernel(rule, param, grad, [codes, scales], step=2)
        assert torch.isfinite(scales).all()
        results.append((param.numpy()[rest], codes.numpy()[rest], param.numpy()[[3, 280]]))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])
    assert np.isnan(results[1][2]).all()
