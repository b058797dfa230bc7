"""Promise: 16-bit storage. Every bfloat16 and float16 mantissa is read, written and rounded as stated."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
core = pytest.importorskip("rmsprop._core", reason="the compiled module is not installed")

from rmsprop import Rule  # noqa: E402
from storage_helpers import (  # noqa: E402
    ISAS,
    assert_fair,
    floats,
    restore_isa,  # noqa: F401
    stepped,
    words,
    written,
    z_scores,
)

FORMATS = {"bfloat16": torch.bfloat16, "float16": torch.float16}
ROUNDED = [(rounding, name) for rounding in ("nearest", "stochastic") for name in FORMATS]
ROUNDED += [("compensated", "bfloat16")]  # which is for bfloat16 alone
LARGEST = {name: torch.finfo(dtype).max for name, dtype in FORMATS.items()}


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
