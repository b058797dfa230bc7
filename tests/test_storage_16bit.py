"""Promise: 16-bit numbers are read, written and rounded as documented; random bits depend on seed and place only."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
core = pytest.importorskip("rmsprop._core", reason="the compiled module is not installed")

from rmsprop import Rule  # noqa: E402
from rmsprop.torch.state import _encode  # noqa: E402
from storage_helpers import (  # noqa: E402, F401  # noqa: E402
    BLOCK,
    assert_unbiased,
    compute_z_scores,
    each_isa,
    make_floats,
    read_words,
    step_kernel,
    write_param,
)

FORMATS = {"bfloat16": torch.bfloat16, "float16": torch.float16}
ROUNDED = [
    *((rounding, name) for rounding in ("nearest", "stochastic") for name in FORMATS),
    ("compensated", "bfloat16"),
]
LARGEST = {name: torch.finfo(dtype).max for name, dtype in FORMATS.items()}
UNCHANGED = Rule(rho=1.0, eps=1.0)
"""With a gradient of 0, a step of this rule changes nothing."""


# ---- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rounding", "name"), ROUNDED)
def test_a_step_of_zero_changes_no_16_bit_number(rounding, name, isa):
    before = torch.from_numpy(np.arange(2**16, dtype=np.uint16).view(np.int16).copy()).view(FORMATS[name])
    after = before.clone()
    lost = [torch.zeros(2**16, dtype=torch.int16)] if rounding == "compensated" else []
    step_kernel(UNCHANGED, after, torch.zeros_like(after), [torch.ones(2**16), *lost], rounding=rounding)
    nan = torch.isnan(before).numpy()
    assert np.array_equal(read_words(after)[~nan], read_words(before)[~nan])
    assert torch.isnan(after).numpy()[nan].all()


def draw_around_bfloat16():
    """Draw each upper half with the lower halves next to a change of rounding, without NaN."""
    lower = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    bits = (np.arange(2**16, dtype=np.uint32)[:, None] << 16 | lower).ravel()
    return make_floats(bits[(bits & 0x7FFFFFFF) <= 0x7F800000])


def draw_around_float16():
    """Draw each float16, the middle to the next one, and their float32 neighbors; random floats of every size."""
    half = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    middle = ((half[:-1].astype(float) + half[1:]) / 2).astype(np.float32)  # exact
    top = np.array([65503.0, 65504.0, 65519.0, 65520.0, 65521.0, 65535.0, 65536.0, 1e30, np.inf], np.float32)
    points = np.concatenate([half, middle, top])
    near = [np.nextafter(points, np.float32(toward)) for toward in (np.inf, 0)]
    random = np.random.default_rng(4).integers(0, 0x7F800000, 200_000).astype(np.uint32).view(np.float32)
    positive = np.concatenate([points, *near, random])
    return torch.from_numpy(np.concatenate([positive, -positive]))


AROUND = {"bfloat16": draw_around_bfloat16, "float16": draw_around_float16}


@pytest.mark.parametrize("name", FORMATS)
def test_nearest_is_torchs_rounding_but_finite_numbers_stay_finite(name, isa):
    x = AROUND[name]()
    ours = write_param(x, FORMATS[name])
    theirs = x.to(FORMATS[name]).float()
    theirs = torch.where(torch.isinf(theirs) & torch.isfinite(x), torch.sign(x) * LARGEST[name], theirs)
    theirs = theirs.to(FORMATS[name])
    zero = (theirs == 0).numpy()  # without its sign: 0 - 0 is +0
    assert np.array_equal(read_words(ours)[~zero], read_words(theirs)[~zero])
    assert not ours.float().numpy()[zero].any()
    assert torch.isfinite(ours)[torch.isfinite(x)].all()


@pytest.mark.parametrize(("rounding", "name"), ROUNDED)
def test_nan_and_infinity_do_not_change(rounding, name):
    x = torch.tensor([np.nan, np.inf, -np.inf, 1.0])
    ours = write_param(x, FORMATS[name], rounding=rounding).float()
    assert torch.isnan(ours[0])
    assert ours[1:].tolist() == [np.inf, -np.inf, 1.0]


def find_neighbors(x, name):
    """Return the neighbors (below, above) in the format of positive float32 numbers, at most the largest number."""
    dtype = FORMATS[name]
    nearest = x.to(dtype)
    down = torch.where(nearest.float() > x, (nearest.view(torch.int16) - 1).view(dtype), nearest)
    up = torch.where(down.float() < x, (down.view(torch.int16) + 1).view(dtype), down)
    return down.float().clamp(max=LARGEST[name]), up.float().clamp(max=LARGEST[name])


@pytest.mark.parametrize("name", FORMATS)
def test_stochastic_rounding_takes_one_of_the_two_neighbors(name, isa):
    x = AROUND[name]()
    x = x[torch.isfinite(x)]
    ours = write_param(x, FORMATS[name], rounding="stochastic").float()
    down, up = find_neighbors(x.abs(), name)
    assert ((ours.abs() == down) | (ours.abs() == up)).all()
    assert ((ours == 0) | (torch.sign(ours) == torch.sign(x))).all()
    assert torch.isfinite(ours).all()


# ---- no bias ---------------------------------------------------------------------------------------------------------

REPEATS = 1000


def draw_mantissas(name):
    """Draw every mantissa with a random fraction, at several sizes, subnormal ones included; and the chance of up."""
    rng = np.random.default_rng(5)
    count = 2**7 if name == "bfloat16" else 2**10
    tiny = float(torch.finfo(FORMATS[name]).smallest_normal) / count
    parts = [
        (start + (np.arange(count) + rng.uniform(0.05, 0.95, count)) / scale) * size
        for start, scale, size in ((1, count, 1.0), (1, count, 2.0**-3), (1, count, 2.0**9), (0, 1, tiny))
    ]
    x = torch.from_numpy(np.concatenate(parts).astype("float32"))
    down, up = (t.double().numpy() for t in find_neighbors(x, name))
    return x, down, up, (x.double().numpy() - down) / (up - down)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("name", FORMATS)
def test_stochastic_rounding_is_unbiased_for_every_mantissa(name, sign):
    x, _, up, chance = draw_mantissas(name)
    ours = write_param(sign * x.repeat(REPEATS), FORMATS[name], rounding="stochastic", seed=6).float()
    ups = (ours.abs().view(REPEATS, -1).double().numpy() == up).sum(0)
    assert_unbiased(compute_z_scores(ups, REPEATS, chance))


def test_rounding_of_bfloat16_statistics_is_unbiased():
    x, down, up, chance = (part[: 3 * 2**7] for part in draw_mantissas("bfloat16"))  # without subnormal numbers
    grad = x.repeat(REPEATS)
    ones, buffer, mean, square, rest = (torch.full(grad.shape, v, dtype=torch.bfloat16) for v in (1.0, 0, 0, 0, 0))
    step_kernel(Rule(rho=1.0, eps=0.0, buffer="unit"), torch.zeros_like(grad), grad, [ones, buffer])
    step_kernel(Rule(rho=0.0, eps=1.0, centered=True), torch.zeros_like(grad), grad, [mean, rest])
    step_kernel(Rule(rho=0.0, eps=1.0), torch.zeros_like(grad), grad.sqrt(), [square])
    for values in (buffer, mean):
        ups = (values.float().view(REPEATS, -1).double().numpy() == up).sum(0)
        assert_unbiased(compute_z_scores(ups, REPEATS, chance))
    exact = (x.sqrt() * x.sqrt()).double().numpy()
    average = square.float().view(REPEATS, -1).double().numpy().mean(0)
    assert np.abs((average - exact) / (up - down)).max() < 5 * 0.5 / np.sqrt(REPEATS)
    assert not torch.equal(buffer, mean)  # different buffers get different random numbers


def test_a_bfloat16_mean_square_is_zero_only_if_it_is_zero():
    grad = torch.tensor([0.0, 1e-22, 1e-21, 3e-21, 1e-20, 1.0]).repeat(200)
    square = torch.zeros(grad.shape, dtype=torch.bfloat16)
    step_kernel(Rule(rho=0.0, eps=1.0), torch.zeros_like(grad), grad, [square])
    assert torch.equal(square == 0, grad * grad == 0)
    assert (grad * grad == 0).sum() == 200  # 1e-22 squared is still a float32


# ---- compensated rounding --------------------------------------------------------------------------------------------


def read_bits(x):
    return x.detach().numpy().view(np.uint32)


def join_bits(param, lost):
    """Return the bits of the float32 that a bfloat16 and its lost bits stand for, by definition."""
    return ((read_words(param).astype(np.int64) << 16) + lost.numpy().astype(np.int64)).astype(np.uint32)


UPPER = [0x3F80, 0xBF80, 0x3FFF, 0x0000, 0x8000, 0x0001, 0x8001, 0x007F, 0x0080, 0x7F7E, 0xFF7E, 0x42C8]


@pytest.mark.parametrize("upper", UPPER, ids=hex)
def test_every_pattern_of_lost_bits_is_kept(upper, isa):
    bits = np.uint32(upper) << np.uint32(16) | np.arange(2**16, dtype=np.uint32)
    if upper & 0x7FFF <= 0x007F:  # halving the buffer would round a subnormal number
        bits &= np.uint32(0xFFFFFFFE)
    lost = torch.zeros(2**16, dtype=torch.int16)
    param = write_param(make_floats(bits), torch.bfloat16, rounding="compensated", lost=lost)
    expected = np.where(bits == 0x80000000, 0, bits)  # 0 - 0 is +0
    assert np.array_equal(join_bits(param, lost), expected)
    # What was written is read back: a step of zero changes no bit.
    buffers = [torch.ones(2**16), lost]
    step_kernel(UNCHANGED, param, torch.zeros_like(param), buffers, rounding="compensated")
    assert np.array_equal(join_bits(param, lost), expected)


def test_compensated_weights_have_the_bits_of_a_float32_run(isa):
    rule = Rule(rho=0.9, eps=1e-8, buffer="unit", momentum=0.9, weight_decay=0.01, weight_decay_mode="decoupled")
    rng = np.random.default_rng(7)
    n = 5000
    start = rng.integers(0, 0x7F000000, n).astype(np.uint32) | (rng.integers(0, 2, n).astype(np.uint32) << 31)
    start[: n // 2] = rng.standard_normal(n // 2).astype("float32").view(np.uint32)
    lost = torch.zeros(n, dtype=torch.int16)
    param = write_param(make_floats(start), torch.bfloat16, rounding="compensated", lost=lost)
    single = make_floats(join_bits(param, lost))
    ours, theirs = [torch.zeros(n), torch.zeros(n)], [torch.zeros(n), torch.zeros(n)]
    for step in range(1, 40):
        grad = torch.from_numpy(rng.standard_normal(n).astype("float32")).bfloat16()
        step_kernel(rule, param, grad, [*ours, lost], rounding="compensated", lr=1e-3, step=step)
        step_kernel(rule, single, grad.float(), theirs, lr=1e-3, step=step)
        assert np.array_equal(join_bits(param, lost), read_bits(single)), step


def test_the_largest_compensated_number_is_just_below_half_a_spacing_above_the_largest_bfloat16():
    x = make_floats([0x7F7F7FFF, 0x7F7F8000, 0x7F7FFFFF, 0xFF7F7FFF, 0xFF7FFFFF])
    lost = torch.zeros(5, dtype=torch.int16)
    param = write_param(x, torch.bfloat16, rounding="compensated", lost=lost)
    assert np.array_equal(join_bits(param, lost), [0x7F7F7FFF] * 3 + [0xFF7F7FFF] * 2)
    assert torch.isfinite(param).all()


@pytest.mark.parametrize("lost_bits", [-32768, -1, 1, 32767])
def test_a_compensated_parameter_may_be_changed_elsewhere(lost_bits, isa):
    new = torch.tensor([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0]).bfloat16()
    param, lost = new.clone(), torch.full((6,), lost_bits, dtype=torch.int16)
    step_kernel(UNCHANGED, param, torch.zeros_like(param), [torch.ones(6), lost], rounding="compensated")
    assert torch.equal(param.float()[:4].abs(), new.float()[:4].abs())
    assert torch.isnan(param[4])
    assert abs(float(param[5]) - 1.0) <= 2.0**-7


# ---- random bits -----------------------------------------------------------------------------------------------------

PARALLEL = 70_001
"""A length for which the kernel uses all its threads, and no multiple of a block."""


def round_everything(**options):
    """Round parameter, code, mean and momentum stochastically in one step; return all bits by name."""
    rng = np.random.default_rng(8)
    rule = Rule(rho=0.9, eps=1e-4, centered=True, buffer="unit", momentum=0.9)
    draws = [torch.from_numpy(rng.standard_normal(PARALLEL).astype("float32")) for _ in range(5)]
    param, grad, mean, buffer = (x.bfloat16() for x in draws[:4])
    codes, scales = _encode(draws[4] ** 2)
    step_kernel(rule, param, grad, [mean, codes, buffer, scales], rounding="stochastic", lr=0.01, **options)
    arrays = {"param": read_words(param), "mean": read_words(mean), "buffer": read_words(buffer), "code": codes.numpy()}
    return {name: array.tobytes() for name, array in (*arrays.items(), ("scales", scales.numpy()))}


def test_the_same_seed_gives_the_same_bits_with_any_threads_and_instructions(isa):
    core.set_isa("baseline")
    expected = round_everything(seed=9, threads=1)
    core.set_isa(isa)
    for threads in (1, 2, 3, 7):
        assert round_everything(seed=9, threads=threads) == expected, threads


def test_another_seed_step_or_tensor_gives_other_bits():
    base = round_everything(seed=9)
    for change in ({"seed": 10}, {"seed": 9, "step": 2}, {"seed": 9, "first": 1}, {"seed": 2**62}):
        other = round_everything(**change)
        for name in ("param", "mean", "buffer", "code"):
            assert other[name] != base[name], (name, change)


def test_neighboring_seeds_tensors_and_blocks_are_not_correlated():
    n = 64 * BLOCK
    x = torch.full((n,), 1.0 + 2.0**-8)  # half way between two bfloat16: up or down with equal probability
    options = [*({"seed": s} for s in range(4)), *({"first": f} for f in (1, 2, 3)), *({"step": s} for s in (2, 3))]
    rows = [write_param(x, torch.bfloat16, rounding="stochastic", **o).double().numpy() for o in options]
    rows = np.where(np.array(rows) > 1.0, 1.0, -1.0)
    correlation = rows @ rows.T / n
    assert np.abs(correlation[~np.eye(len(rows), dtype=bool)]).max() < 5 / np.sqrt(n)
    blocks = rows[0].reshape(64, BLOCK)
    between = (blocks @ blocks.T / BLOCK)[~np.eye(64, dtype=bool)]
    assert np.abs(between).max() < 5.5 / np.sqrt(BLOCK)
    shifted = [float(rows[0][:-k] @ rows[0][k:]) / (n - k) for k in range(1, 40)]
    assert np.abs(shifted).max() < 5 / np.sqrt(n - 40)
