"""What holds for every input: laws that are exact, and limits that hold with a stated bound."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import rmsprop
from cases import COVERING, DTYPES, ULP, same_bits
from rmsprop import Rule
from rmsprop.errors import RuleError

settings.register_profile("laws", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("laws")


def numbers(dtype, low=-1e6, high=1e6):
    width = 32 if dtype == "float32" else 64
    return st.floats(np.dtype(dtype).type(low).item(), np.dtype(dtype).type(high).item(), width=width)


@st.composite
def rules(draw, **fixed):
    switches = {
        "rho": st.floats(0.0, 0.999),
        "eps": st.sampled_from([0.0, 1e-30, 1e-8, 1e-3]),
        "eps_mode": st.sampled_from(["outside", "inside", "max"]),
        "init": st.sampled_from(["zeros", "ones", "eps", 0.3]),
        "centered": st.booleans(),
        "var_floor": st.sampled_from([0.0, 1e-6]),
        "bias_correction": st.booleans(),
        "buffer": st.sampled_from(["none", "unit", "lr"]),
        "momentum": st.sampled_from([0.0, 0.5, 0.99]),
        "nesterov": st.sampled_from(["none", "post"]),
        "weight_decay": st.sampled_from([0.0, 1e-4, 0.1]),
        "weight_decay_mode": st.sampled_from(["none", "l2", "decoupled", "decoupled_corrected", "in_buffer"]),
        "maximize": st.booleans(),
    }
    chosen = {name: draw(strategy) for name, strategy in switches.items()} | fixed
    try:
        return Rule(**chosen)
    except RuleError:
        assume(False)


@st.composite
def runs(draw, low=-1e6, high=1e6, **fixed):
    """A rule, a start and the gradients of a few steps."""
    dtype, rule = draw(st.sampled_from(DTYPES)), draw(rules(**fixed))
    n, steps = draw(st.integers(1, 40)), draw(st.integers(1, 5))
    start = draw(arrays.arrays(dtype, n, elements=numbers(dtype)))
    grads = draw(arrays.arrays(dtype, (steps, n), elements=numbers(dtype, low, high)))
    return rule, start, grads


def run(rule, start, grads, *, lr=0.01):
    """The parameters after all steps, and the optimizer."""
    params = np.array(start)
    optimizer = rmsprop.RMSprop(params, lr=lr, dialect=rule)
    for grad in grads:
        optimizer.step(np.ascontiguousarray(grad))
    return params, optimizer


def state(optimizer):
    return {name: arrays[0] for name, arrays in optimizer.buffers.items()}


# ---- exact ----------------------------------------------------------------------------------------------------------


@given(runs(), st.data())
def test_a_concatenation_steps_like_its_parts(case, data):
    rule, start, grads = case
    cut = data.draw(st.integers(0, start.size))
    whole, _ = run(rule, start, grads)
    left, _ = run(rule, start[:cut], grads[:, :cut])
    right, _ = run(rule, start[cut:], grads[:, cut:])
    assert same_bits(whole, np.concatenate([left, right]))


@given(runs(), st.randoms(use_true_random=False))
def test_a_permutation_steps_like_the_original(case, random):
    rule, start, grads = case
    order = list(range(start.size))
    random.shuffle(order)
    whole, _ = run(rule, start, grads)
    permuted, _ = run(rule, start[order], grads[:, order])
    assert same_bits(permuted, whole[order])


@given(runs())
def test_a_mirror_image_steps_like_the_original(case):
    rule, start, grads = case
    ours, optimizer = run(rule, start, grads)
    mirrored, other = run(rule, -start, -grads)
    assert np.array_equal(mirrored, -ours)
    for name, array in state(optimizer).items():
        sign = 1 if name in ("mean_sq", "grad_var") else -1
        assert np.array_equal(state(other)[name], sign * array)


@given(runs(), st.booleans())
def test_to_maximize_is_to_minimize_the_negative(case, maximize):
    rule, start, grads = case
    assume(rule.weight_decay_mode != "l2" or rule.weight_decay == 0)
    ours, _ = run(rule.replace(maximize=maximize), start, grads)
    theirs, _ = run(rule.replace(maximize=not maximize), start, -grads)
    assert np.array_equal(ours, theirs)


@given(
    runs(eps=0.0, var_floor=0.0, init="zeros", weight_decay=0.0, weight_decay_mode="none", low=-4, high=4),
    st.integers(-20, 20),
)
def test_without_eps_the_scale_of_the_gradients_changes_no_bit(case, k):
    rule, start, grads = case
    grads = np.where(np.abs(grads) < 1e-4, 0.25, grads).astype(grads.dtype)  # away from the subnormal numbers
    ours, _ = run(rule, start, grads)
    scaled, _ = run(rule, start, grads * grads.dtype.type(2.0**k))
    assume(np.isfinite(ours).all())
    # The variance may come out as 0 or subnormal where gradients repeat; the law is about the others.
    _, optimizer = run(rule, start, grads)
    square = state(optimizer)["grad_var" if rule.centered else "mean_sq"]
    ordinary = square > 1e-12
    assert same_bits(ours[ordinary], scaled[ordinary]) or rule.centered
    if not rule.centered:
        assert same_bits(ours, scaled)


@given(runs(buffer="none", momentum=0.0, nesterov="none"), st.sampled_from(["unit", "lr"]))
def test_momentum_zero_is_no_momentum(case, buffer):
    rule, start, grads = case
    plain, _ = run(rule, start, grads)
    buffered, _ = run(rule.replace(buffer=buffer), start, grads)
    assert np.array_equal(plain, buffered)


@given(runs(weight_decay=0.0))
def test_weight_decay_zero_is_no_weight_decay(case):
    rule, start, grads = case
    mode = "none"
    plain, _ = run(rule.replace(weight_decay_mode=mode), start, grads)
    ours, _ = run(rule, start, grads)
    assert np.array_equal(ours, plain)


@given(runs())
def test_an_lr_of_zero_moves_nothing_and_still_counts(case):
    rule, start, grads = case
    params, optimizer = run(rule, start, grads, lr=0.0)
    assert np.array_equal(params, start)
    assert optimizer.steps[0] == len(grads)


@given(runs())
def test_gradients_of_zero_from_a_fresh_state_move_nothing_but_weight_decay(case):
    rule, start, grads = case
    rule = rule.replace(weight_decay=0.0, weight_decay_mode="none")
    params, _ = run(rule, start, np.zeros_like(grads))
    assert np.array_equal(params, start)


# ---- exact arithmetic -----------------------------------------------------------------------------------------------


def exact(values):
    return [Fraction(float(value)) for value in values]


@given(
    st.floats(0.0, 0.999),
    st.lists(st.floats(-1e3, 1e3).filter(lambda g: g == 0 or abs(g) > 1e-100), min_size=1, max_size=30),
)
def test_bias_correction_is_the_average_divided_by_one_minus_rho_to_the_t(rho, gradients):
    rule = Rule(rho=rho, bias_correction=True)
    _, optimizer = run(rule, np.zeros(1), np.array(gradients)[:, None])
    kept = Fraction(state(optimizer)["mean_sq"][0].item())
    average, decay = Fraction(0), Fraction(rho)
    for gradient in exact(gradients):
        average = decay * average + (1 - decay) * gradient**2
    corrected = average / (1 - decay ** len(gradients))
    # 1 - rho^t in double precision is off by half a unit of rho^t, which counts 1 / (1 - rho^t) times; then each step
    # rounds four times. The decay of a step is 1 - fresh, off by half a unit of 1: that times the average before it.
    bound = (4 * len(gradients) + 4 / (1 - rho)) * ULP["float64"]
    largest = max(gradient**2 for gradient in exact(gradients))
    assert abs(kept - corrected) <= bound * corrected + len(gradients) * ULP["float64"] * largest


@given(
    st.floats(0.0, 0.999),
    st.lists(st.floats(-1e3, 1e3).filter(lambda g: g == 0 or abs(g) > 1e-100), min_size=1, max_size=30),
    st.floats(-1e3, 1e3),
)
def test_the_variance_is_the_mean_square_minus_the_squared_mean(rho, gradients, shift):
    gradients = [g + shift for g in gradients]
    _, optimizer = run(Rule(rho=rho, centered=True), np.zeros(1), np.array(gradients)[:, None])
    kept = state(optimizer)
    square = mean = Fraction(0)
    fresh = Fraction(1.0 - rho)  # as the rule rounds it
    for gradient in exact(gradients):
        square = Fraction(rho) * square + fresh * gradient**2
        mean = mean + fresh * (gradient - mean)
    largest = max(Fraction(g) ** 2 for g in gradients)
    variance = square - mean**2
    # Rounding moves the mean by units in the last place of the largest gradient, and may keep it 1 / (1 - rho) such
    # units from where it should be; both enter the variance with the deviation, at most twice the largest gradient.
    bound = (16 * len(gradients) + 4 / (1 - rho)) * ULP["float64"] * float(largest)
    assert abs(Fraction(kept["grad_var"][0].item()) - variance) <= bound
    assert abs(float(Fraction(kept["mean_grad"][0].item()) - mean)) <= bound / math.sqrt(largest or 1)
    assert kept["grad_var"][0] >= 0


# ---- finite ---------------------------------------------------------------------------------------------------------

HUGE = {"float32": 1e38, "float64": 1e308}


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=150)
@given(data=st.data())
def test_finite_gradients_give_finite_parameters(dtype, data):
    huge = np.finfo(dtype).max
    special = [0.0, HUGE[dtype], -HUGE[dtype], float(huge), -float(huge), float(np.finfo(dtype).tiny), 1e-30]
    elements = st.one_of(st.sampled_from(special), numbers(dtype, -huge, huge))
    # The gradient over eps itself must be a number: a variance can be 0 whatever the gradient.
    eps = data.draw(st.sampled_from([0.0, 1e-30, 1e-8]))
    rule = data.draw(rules(eps=eps, centered=data.draw(st.booleans()) and eps == 1e-8))
    n, steps = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    start = data.draw(arrays.arrays(dtype, n, elements=numbers(dtype)))
    grads = data.draw(arrays.arrays(dtype, (steps, n), elements=elements.map(np.dtype(dtype).type)))
    params, optimizer = run(rule, start, grads, lr=data.draw(st.sampled_from([0.0, 1e-3, 1.0])))
    assert np.isfinite(params).all()
    assert all(np.isfinite(array).all() for array in state(optimizer).values())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("rule", COVERING.values(), ids=COVERING)
def test_the_largest_gradients_in_turns_of_sign_stay_finite(rule, rho, dtype):
    rule = rule.replace(rho=rho)
    if rule.centered:
        rule = rule.replace(eps=1e-8)  # as above
    grads = np.array([[(-1) ** t * HUGE[dtype]] for t in range(20)], dtype)
    params, optimizer = run(rule, np.ones(1, dtype), grads)
    assert np.isfinite(params).all()
    assert all(np.isfinite(array).all() for array in state(optimizer).values())


@pytest.mark.parametrize("rho", [0.9, 0.95, 0.99])
@pytest.mark.parametrize("eps_mode", ["outside", "inside"])
def test_constant_gradients_of_a_centered_rule_stay_finite(rho, eps_mode):
    # torch in float32 gives NaN at step 133, 262 and 1209: its variance is a difference that rounding makes negative.
    rule = Rule(rho=rho, eps=1e-8, eps_mode=eps_mode, centered=True)
    gradients = np.array([1e-4, 0.1, 1.0, 3.0, 1e4], "float32")
    params, optimizer = run(rule, np.zeros(5, "float32"), np.tile(gradients, (3000, 1)), lr=1e-4)
    assert np.isfinite(params).all()
    kept = state(optimizer)
    assert (np.abs(kept["mean_grad"] - gradients) <= ULP["float32"] * gradients).all()  # it arrives
    gap = ULP["float32"] / (1 - rho) * gradients  # of the mean where rounding stops it
    assert (kept["grad_var"] >= 0).all()
    floor = 2.0**-12 * gradients  # the root of the unit roundoff
    assert (np.sqrt(kept["grad_var"]) <= np.maximum(gap, floor)).all()


@pytest.mark.parametrize("rho", [0.9, 0.95, 0.99])
def test_constant_gradients_of_a_centered_rule_follow_double_precision(rho):
    rule = Rule(rho=rho, eps=1e-3, eps_mode="outside", centered=True)
    gradients = np.array([0.5, 1.0, 3.0])
    single, _ = run(rule, np.zeros(3, "float32"), np.tile(gradients.astype("float32"), (3000, 1)), lr=1e-4)
    fading = rho ** np.arange(1, 3001)[:, None]
    deviation = gradients * np.sqrt(np.maximum(fading * (1 - fading), 2.0**-24))
    double = -1e-4 * np.sum(gradients / (deviation + 1e-3), axis=0)
    # The mean is off by at most 1 / (1 - rho) units in the last place of the gradient, and with it the standard
    # deviation; eps is what it is compared with. The parameter's own 3000 additions round by half a unit each.
    gap = ULP["float32"] / (1 - rho) * gradients
    np.testing.assert_array_less(np.abs(single - double), (gap / 1e-3 + 1500 * ULP["float32"]) * np.abs(double))
    assert (np.abs(double) > 1.0).all()  # it did go somewhere
