"""Promise: 16-bit and 8-bit storage. Every code and every bfloat16 mantissa is read, written and rounded as stated.

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
PARALLEL = 70_001
"""A length from which the kernel uses the threads it is given, and no multiple of a block."""
FORMATS = {"bfloat16": torch.bfloat16, "float16": torch.float16}
ROUNDED = [(rounding, name) for rounding in ("nearest", "stochastic") for name in FORMATS]
ROUNDED += [("compensated", "bfloat16")]  # which is for bfloat16 alone
LARGEST = {name: torch.finfo(dtype).max for name, dtype in FORMATS.items()}


@pytest.fixture(autouse=True)
def _restore_isa():
    before = core.isa()
    yield
    core.set_isa(before)


def stepped(rule, param, grad, buffers, *, rounding="nearest", lr=1.0, seed=0, first=0, step=1, threads=1):
    """One step of the kernel, in place."""
    lists = tuple([buffer] for buffer in buffers)
    steps = np.array([step - 1])
    handle = _step.handle(rule, rounding=rounding)
    core.step(handle, [param], [grad], lists, steps, lr, lr, threads=threads, seed=seed, first=first)


def floats(bits):
    """float32 tensor of these bits."""
    return torch.from_numpy(np.asarray(bits, np.uint32).view(np.float32).copy())


def bits_of(x):
    return x.detach().numpy().view(np.uint32)


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


def decoded(codes, top):
    """The values of 8-bit codes by the definition: bits(top) - (255 - code) * step, and 0 for code 0."""
    step = (40 << 23) // 254
    bits = int(np.float32(top).view(np.int32)) - (255 - codes.astype(np.int64)) * step
    return np.where(codes == 0, 0, np.maximum(bits, 1)).astype(np.uint32).view(np.float32)


# ---- the 8-bit code --------------------------------------------------------------------------------------------------

TOPS = [1.0, 1.9999999, 3e-5, 7e20, 3.4028235e38, 2.0**-62, 2.0**-63, 1e-30, 1.1754944e-38, 1e-42, 2.0**-149]
CODES = np.arange(256, dtype=np.uint8)


def kept(codes, top, *, seed=0, step=1):
    """Codes and maximum after a step that leaves mean_sq as it is."""
    codes, top = torch.from_numpy(codes.copy()), torch.tensor([top])
    zeros = torch.zeros(codes.shape)
    stepped(Rule(rho=1.0, eps=1.0), zeros, zeros.clone(), [codes, top], seed=seed, step=step)
    return codes.numpy(), float(top)


def encoded(values, **options):
    """(codes, maxima, the mean_sq that was stored): what the kernel stores for the squares of `values`."""
    param, codes = torch.zeros(values.shape), torch.zeros(values.shape, dtype=torch.uint8)
    top = torch.zeros(-(-values.numel() // BLOCK))
    stepped(Rule(rho=0.0, eps=1.0), param, values, [codes, top], **options)
    return codes.numpy(), top.numpy(), (values * values).numpy()


def enclosing(square, top):
    """(lower code, lower value, upper value) for each square, by search in the sorted table of all codes."""
    table = decoded(CODES[1:], top)
    below = np.clip(np.searchsorted(table, square, side="right") - 1, 0, 253)
    return below + 1, table[below], table[below + 1]


def test_the_codes_are_sorted_and_span_forty_octaves_in_steps_of_8_to_16_percent():
    for top in (t for t in TOPS if t > 2.0**-80):
        values = decoded(CODES, top).astype(float)
        assert values[0] == 0.0
        assert values[255] == np.float32(top)
        assert (np.diff(values) > 0).all()
        ratios = values[2:] / values[1:-1]
        assert ratios.min() > 1.08
        assert ratios.max() < 1.17
        assert values[1] / values[255] == pytest.approx(2.0**-40, rel=1e-3)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("top", TOPS)
def test_every_code_comes_back_from_a_step_as_it_was(top, isa):
    core.set_isa(isa)
    top = float(np.float32(top))
    values = decoded(CODES, top)
    unique = np.ones(256, bool)
    unique[1:] = values[1:] != values[:-1]  # codes below the smallest subnormal mean that subnormal
    for seed in range(5):
        codes, new_top = kept(CODES, top, seed=seed)
        assert new_top == top
        assert np.array_equal(decoded(codes, top), values)
        assert (codes == CODES)[unique & np.roll(unique, -1)].all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("top", [t for t in TOPS if t > 1e-37])
def test_the_kernel_reads_every_code_as_defined(top, isa):
    core.set_isa(isa)
    codes = CODES[1:]
    param, grad = torch.zeros(255), torch.ones(255)
    buffers = [torch.from_numpy(codes.copy()), torch.tensor([top])]
    stepped(Rule(rho=1.0, eps=0.0), param, grad, buffers)
    expected = np.float32(0) - np.float32(1) / np.sqrt(decoded(codes, top))
    assert np.array_equal(param.numpy(), expected)


@pytest.mark.parametrize("top", TOPS)
def test_python_reads_and_writes_the_kernels_codes(top):
    top = float(np.float32(top))
    values = torch_state._decode(torch.from_numpy(CODES), torch.tensor([top]))
    assert np.array_equal(values.numpy(), decoded(CODES, top))
    codes, maxima = torch_state._encode(values)
    assert maxima.tolist() == [top]
    assert np.array_equal(decoded(codes.numpy(), top), decoded(CODES, top))
    if top > 2.0**-80:
        assert np.array_equal(codes.numpy(), CODES)


def test_python_writes_the_nearer_of_two_neighbours_and_no_zero():
    rng = np.random.default_rng(0)
    values = (rng.standard_normal(256) ** 2 * 2.0 ** rng.uniform(-60, 0, 256)).astype("float32")
    values[::17] = 0.0
    codes, maxima = (t.numpy() for t in torch_state._encode(torch.from_numpy(values)))
    low_code, low, high = enclosing(values, maxima[0])
    assert np.array_equal(codes == 0, values == 0)
    inside = values > low
    expected = np.where(values - low < high - values, low_code, low_code + 1)
    assert (abs(codes.astype(int) - expected)[inside] <= 1).all()
    # Nearest by the bits; between two codes bits and values differ by less than a tenth of the step.
    clear = inside & (abs((values - low) / (high - low) - 0.5) > 0.1)
    assert np.array_equal(codes[clear], expected[clear])
    assert (codes[~inside & (values > 0)] == 1).all()


@pytest.mark.parametrize("isa", ISAS)
def test_a_mean_square_becomes_one_of_its_two_neighbours_and_zero_only_if_it_is_zero(isa):
    core.set_isa(isa)
    rng = np.random.default_rng(1)
    n = 400 * BLOCK
    for center in (0, 40, -30, -60):
        values = rng.standard_normal(n) * 2.0 ** (rng.uniform(-32, 0, n) + center)
        values[rng.random(n) < 0.05] = 0.0
        codes, tops, square = encoded(torch.from_numpy(values.astype("float32")))
        for block, top in enumerate(tops):
            part = slice(block * BLOCK, (block + 1) * BLOCK)
            assert top == square[part].max()
            below, low, _ = enclosing(square[part], top)
            assert np.array_equal(codes[part] == 0, square[part] == 0)
            nonzero = square[part] > 0
            under = nonzero & (square[part] < low)
            assert (codes[part][under] == 1).all()
            exact = square[part] == low
            allowed = (codes[part] == below) | ((codes[part] == below + 1) & ~exact)
            # The distance to the maximum is counted in float32: within a ten-thousandth of a step of a code, the next
            # pair may have been taken.
            table = decoded(CODES[1:], top).astype(float)
            near = (abs(square[part][:, None].astype(float) / table - 1) < 2e-5).any(1)
            assert (allowed | near)[nonzero].all()


def z_scores(ups, count, chance):
    """How many standard deviations a count of rounded up values is away from its expectation."""
    sigma = np.sqrt(np.maximum(count * chance * (1 - chance), 1e-12))
    return (ups - count * chance) / sigma


def assert_fair(z, note=""):
    """Standard deviations of some hundred independent counts; seeds are fixed, so this holds or fails for good."""
    assert np.abs(z).max() < 5, note
    assert 0.6 < np.mean(z**2) < 1.5, note  # no worse, and no better, than independent draws


@pytest.mark.parametrize(("scale", "octaves"), [(1.0, 19), (1e-12, 19), (2.0**-60, 10), (2.0**-66, 4)])
def test_rounding_to_codes_is_unbiased_down_to_subnormal_numbers(scale, octaves):
    rng = np.random.default_rng(2)
    one = np.append(2.0 ** rng.uniform(-octaves, 0, BLOCK - 1), 1.0).astype("float32") * np.float32(scale)
    repeats = 2000
    codes, tops, square = encoded(torch.from_numpy(np.tile(one, repeats)), seed=3)
    square, top = square[:BLOCK], tops[0]
    below, low, high = enclosing(square, top)
    apart = high > low  # below the smallest subnormal codes coincide
    chance = (square.astype(float) - low) / np.where(apart, high.astype(float) - low, 1.0)
    ups = (codes.reshape(repeats, BLOCK) == below + 1).sum(0)
    clear = apart & (chance > 0.02) & (chance < 0.98)
    assert clear.sum() > 100
    assert_fair(z_scores(ups, repeats, chance)[clear])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf], ids=["nan", "-nan", "inf", "-inf"])
def test_what_is_not_finite_leaves_the_rest_of_its_block_alone(bad, isa):
    core.set_isa(isa)
    grad = torch.linspace(0.1, 1, 300)
    broken = grad.clone()
    broken[[3, 280]] = float(np.copysign(bad, -1.0 if str(bad).startswith("-") else 1.0))
    rule = Rule(rho=0.9, eps=1e-8)
    rest = np.delete(np.arange(300), [3, 280])
    results = []
    for first in (grad, broken):
        param, codes, top = torch.zeros(300), torch.zeros(300, dtype=torch.uint8), torch.zeros(2)
        stepped(rule, param, first, [codes, top])
        stepped(rule, param, grad, [codes, top], step=2)
        assert torch.isfinite(top).all()
        results.append((param.numpy()[rest], codes.numpy()[rest], param.numpy()[[3, 280]]))
    assert np.array_equal(results[0][0], results[1][0])
    assert np.array_equal(results[0][1], results[1][1])
    assert np.isnan(results[1][2]).all()  # not hidden: it is in the parameter


# ---- bfloat16 and float16 parameters ---------------------------------------------------------------------------------


def every_word(name):
    return torch.from_numpy(np.arange(2**16, dtype=np.uint16).view(np.int16).copy()).view(FORMATS[name])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("rounding", "name"), ROUNDED)
def test_every_16_bit_number_survives_a_step_of_nothing(rounding, name, isa):
    core.set_isa(isa)
    before = every_word(name)
    after = before.clone()
    buffers = [torch.ones(2**16)]
    if rounding == "compensated":
        buffers.append(torch.zeros(2**16, dtype=torch.int16))
    stepped(Rule(rho=1.0, eps=1.0), after, torch.zeros_like(after), buffers, rounding=rounding)
    nan = torch.isnan(before).numpy()
    assert np.array_equal(words(after)[~nan], words(before)[~nan])
    assert torch.isnan(after)[torch.from_numpy(nan)].all()


def around_every_bfloat16():
    """Each upper half with the lower halves at which rounding changes its mind; NaN left out."""
    lower = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    bits = (np.arange(2**16, dtype=np.uint32)[:, None] << 16 | lower).ravel()
    return floats(bits[(bits & 0x7FFFFFFF) <= 0x7F800000])


def around_every_float16():
    """Each float16, the middle to the next one, and their float32 neighbours; random floats of every size."""
    half = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    middle = ((half[:-1].astype(float) + half[1:]) / 2).astype(np.float32)  # exact
    top = np.array([65503.0, 65504.0, 65519.0, 65520.0, 65521.0, 65535.0, 65536.0, 1e30, np.inf], np.float32)
    points = np.concatenate([half, middle, top])
    near = [np.nextafter(points, np.float32(toward)) for toward in (np.inf, 0)]
    random = np.random.default_rng(4).integers(0, 0x7F800000, 200_000).astype(np.uint32).view(np.float32)
    positive = np.concatenate([points, *near, random])
    return torch.from_numpy(np.concatenate([positive, -positive]))


AROUND = {"bfloat16": around_every_bfloat16, "float16": around_every_float16}


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", FORMATS)
def test_nearest_is_torchs_rounding_but_finite_stays_finite(name, isa):
    core.set_isa(isa)
    x = AROUND[name]()
    ours = written(x, FORMATS[name])
    theirs = x.to(FORMATS[name])
    theirs = torch.where(torch.isinf(theirs) & torch.isfinite(x), torch.sign(x) * LARGEST[name], theirs.float())
    theirs = theirs.to(FORMATS[name])
    zero = (theirs == 0).numpy()  # a sign of zero is not the format's: 0 - 0 is +0
    assert np.array_equal(words(ours)[~zero], words(theirs)[~zero])
    assert not ours.float().numpy()[zero].any()
    assert torch.isfinite(ours)[torch.isfinite(x)].all()


@pytest.mark.parametrize(("rounding", "name"), ROUNDED)
def test_nan_and_infinity_stay_what_they_are(rounding, name):
    x = torch.tensor([np.nan, np.inf, -np.inf, 1.0])
    ours = written(x, FORMATS[name], rounding=rounding).float()
    assert torch.isnan(ours[0])
    assert ours[1:].tolist() == [np.inf, -np.inf, 1.0]


def neighbours(x, name):
    """(toward zero, away from zero) in the format, of positive float32 numbers; no further than the largest."""
    dtype = FORMATS[name]
    nearest = x.to(dtype)
    down = torch.where(nearest.float() > x, (nearest.view(torch.int16) - 1).view(dtype), nearest)
    up = torch.where(down.float() < x, (down.view(torch.int16) + 1).view(dtype), down)
    return down.float().clamp(max=LARGEST[name]), up.float().clamp(max=LARGEST[name])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", FORMATS)
def test_stochastic_rounding_takes_one_of_the_two_neighbours(name, isa):
    core.set_isa(isa)
    x = AROUND[name]()
    x = x[torch.isfinite(x)]
    ours = written(x, FORMATS[name], rounding="stochastic").float()
    down, up = neighbours(x.abs(), name)
    assert ((ours.abs() == down) | (ours.abs() == up)).all()
    assert ((ours == 0) | (torch.sign(ours) == torch.sign(x))).all()
    assert torch.isfinite(ours).all()


def unbiased_cases(name):
    """Every mantissa of the format with a fraction of its own, at several sizes, subnormal ones among them."""
    rng = np.random.default_rng(5)
    bits = 7 if name == "bfloat16" else 10
    mantissas = np.arange(2**bits)
    cases = []
    for exponent in (0, -3, 9):
        cases.append((1 + (mantissas + rng.uniform(0.05, 0.95, 2**bits)) / 2**bits) * 2.0**exponent)
    tiny = float(torch.finfo(FORMATS[name]).smallest_normal) / 2**bits
    cases.append((mantissas + rng.uniform(0.05, 0.95, 2**bits)) * tiny)
    return np.concatenate(cases).astype("float32")


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("name", FORMATS)
def test_stochastic_rounding_is_unbiased_for_every_mantissa(name, sign):
    one = torch.from_numpy(unbiased_cases(name))
    repeats = 1000
    ours = written(sign * one.repeat(repeats), FORMATS[name], rounding="stochastic", seed=6).float()
    down, up = (t.double().numpy() for t in neighbours(one, name))
    chance = (one.double().numpy() - down) / (up - down)
    ups = (ours.abs().view(repeats, -1).double().numpy() == up).sum(0)
    assert_fair(z_scores(ups, repeats, chance))


def test_statistics_in_bfloat16_are_rounded_without_bias_too():
    one = torch.from_numpy(unbiased_cases("bfloat16"))
    one = one[one > 1e-30]
    repeats = 1000
    down, up = (t.double().numpy() for t in neighbours(one, "bfloat16"))
    chance = (one.double().numpy() - down) / (up - down)
    grad = one.repeat(repeats)

    def bfloat16(value):
        return torch.full(grad.shape, value, dtype=torch.bfloat16)

    buffer, mean, square = bfloat16(0.0), bfloat16(0.0), bfloat16(0.0)
    stepped(Rule(rho=1.0, eps=0.0, buffer="unit"), torch.zeros_like(grad), grad, [bfloat16(1.0), buffer])
    stepped(Rule(rho=0.0, eps=1.0, centered=True), torch.zeros_like(grad), grad, [mean, bfloat16(0.0)])
    stepped(Rule(rho=0.0, eps=1.0), torch.zeros_like(grad), grad.sqrt(), [square])
    for values in (buffer, mean):
        ups = (values.float().view(repeats, -1).double().numpy() == up).sum(0)
        assert_fair(z_scores(ups, repeats, chance))
    exact = (one.sqrt() * one.sqrt()).double().numpy()
    mean_of_squares = square.float().view(repeats, -1).double().numpy().mean(0)
    spacing = up - down
    assert np.abs((mean_of_squares - exact) / spacing).max() < 5 * 0.5 / np.sqrt(repeats)
    # Two purposes draw different bits.
    assert not torch.equal(buffer, mean)


def test_a_bfloat16_mean_square_is_zero_only_if_it_is_zero():
    grad = torch.tensor([0.0, 1e-22, 1e-21, 3e-21, 1e-20, 1.0]).repeat(200)
    square = torch.zeros(grad.shape, dtype=torch.bfloat16)
    stepped(Rule(rho=0.0, eps=1.0), torch.zeros_like(grad), grad, [square])
    assert torch.equal(square == 0, grad * grad == 0)
    assert (grad * grad == 0).sum() == 200  # 1e-22 squared is still a float32


# ---- compensated -----------------------------------------------------------------------------------------------------


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


# ---- the random bits -------------------------------------------------------------------------------------------------


def everything_stochastic(**options):
    """A step that rounds parameter, code, mean and momentum stochastically; all bits together."""
    rng = np.random.default_rng(8)
    rule = Rule(rho=0.9, eps=1e-4, centered=True, buffer="unit", momentum=0.9)

    def draw():
        return torch.from_numpy(rng.standard_normal(PARALLEL).astype("float32"))

    param, grad = draw().bfloat16(), draw().bfloat16()
    mean, buffer = draw().bfloat16(), draw().bfloat16()
    codes, maxima = torch_state._encode(draw() ** 2)
    stepped(rule, param, grad, [mean, codes, buffer, maxima], rounding="stochastic", lr=0.01, **options)
    arrays = {
        "param": words(param),
        "mean": words(mean),
        "buffer": words(buffer),
        "code": codes.numpy(),
        "maxima": maxima.numpy(),
    }
    return {name: array.tobytes() for name, array in arrays.items()}


@pytest.mark.parametrize("isa", ISAS)
def test_the_same_seed_gives_the_same_bits_whatever_the_threads_and_instructions(isa):
    core.set_isa("baseline")
    expected = everything_stochastic(seed=9, threads=1)
    core.set_isa(isa)
    for threads in (1, 2, 3, 7):
        assert everything_stochastic(seed=9, threads=threads) == expected, threads


def test_another_seed_step_or_tensor_gives_other_bits():
    base = everything_stochastic(seed=9)
    for change in ({"seed": 10}, {"seed": 9, "step": 2}, {"seed": 9, "first": 1}, {"seed": 2**62}):
        other = everything_stochastic(**change)
        for name in ("param", "mean", "buffer", "code"):
            assert other[name] != base[name], (name, change)


def test_neighbouring_seeds_tensors_and_blocks_are_not_correlated():
    n = 64 * BLOCK
    x = torch.full((n,), 1.0 + 2.0**-8)  # half way between two bfloat16: up or down like a coin
    rows = []
    for options in [{"seed": s} for s in range(4)] + [{"first": f} for f in (1, 2, 3)] + [{"step": s} for s in (2, 3)]:
        up = written(x, torch.bfloat16, rounding="stochastic", **options).float() > 1.0
        rows.append(up.double().numpy() * 2 - 1)
    rows = np.array(rows)
    correlation = rows @ rows.T / n
    off = correlation[~np.eye(len(rows), dtype=bool)]
    assert np.abs(off).max() < 5 / np.sqrt(n)
    blocks = rows[0].reshape(64, BLOCK)
    between = (blocks @ blocks.T / BLOCK)[~np.eye(64, dtype=bool)]
    assert np.abs(between).max() < 5.5 / np.sqrt(BLOCK)
    shifted = [float(rows[0][:-k] @ rows[0][k:]) / (n - k) for k in range(1, 40)]
    assert np.abs(shifted).max() < 5 / np.sqrt(n - 40)
