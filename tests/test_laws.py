"""Promise: laws that hold exactly for every input, and limits that hold within a stated bound."""

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


@given(runs(), st.data(), st.randoms(use_true_random=False))
def test_elements_are_independent_of_their_neighbors_and_order(case, data, random):
    rule, start, grads = case
    cut, order = data.draw(st.integers(0, start.size)), list(range(start.size))
    random.shuffle(order)
    expected, _ = run(rule, start, grads)
    left, _ = run(rule, start[:cut], grads[:, :cut])
    right, _ = run(rule, start[cut:], grads[:, cut:])
    permuted, _ = run(rule, start[order], grads[:, order])
    assert same_bits(expected, np.concatenate([left, right]))
    assert same_bits(permuted, expected[order])


@given(runs(), st.booleans())
def test_negated_gradients_give_the_negated_run_and_that_of_maximize(case, maximize):
    rule, start, grads = case
    params, optimizer = run(rule, start, grads)
    negated, other = run(rule, -start, -grads)
    assert np.array_equal(negated, -params)
    for name, array in state(optimizer).items():
        sign = 1 if name in ("mean_sq", "grad_var") else -1
        assert np.array_equal(state(other)[name], sign * array)
    assume(rule.weight_decay_mode != "l2" or rule.weight_decay == 0)
    minimized, _ = run(rule.replace(maximize=maximize), start, grads)
    maximized, _ = run(rule.replace(maximize=not maximize), start, -grads)
    assert np.array_equal(minimized, maximized)


@given(
    runs(
        eps=0.0, var_floor=0.0, init="zeros", weight_decay=0.0, weight_decay_mode="none", centered=False, low=-4, high=4
    ),
    st.integers(-20, 20),
)
def test_without_eps_the_scale_of_the_gradients_does_not_matter(case, k):
    rule, start, grads = case
    grads = np.where(np.abs(grads) < 1e-4, 0.25, grads).astype(grads.dtype)  # away from the subnormal numbers
    expected, _ = run(rule, start, grads)
    scaled, _ = run(rule, start, grads * grads.dtype.type(2.0**k))
    assume(np.isfinite(expected).all())
    assert same_bits(expected, scaled)


@given(runs(buffer="none", momentum=0.0, nesterov="none"), st.sampled_from(["unit", "lr"]))
def test_a_momentum_or_weight_decay_of_zero_changes_nothing(case, buffer):
    rule, start, grads = case
    rule = rule.replace(weight_decay=0.0)
    expected, _ = run(rule.replace(weight_decay_mode="none"), start, grads)
    for zero in (rule, rule.replace(buffer=buffer)):
        assert np.array_equal(run(zero, start, grads)[0], expected)


@given(runs())
def test_an_lr_or_gradients_of_zero_move_nothing_and_still_count(case):
    rule, start, grads = case
    params, optimizer = run(rule, start, grads, lr=0.0)
    assert np.array_equal(params, start)
    assert optimizer.steps[0] == len(grads)
    params, _ = run(rule.replace(weight_decay=0.0, weight_decay_mode="none"), start, np.zeros_like(grads))
    assert np.array_equal(params, start)


# ---- exact arithmetic -----------------------------------------------------------------------------------------------


NUMBERS = st.floats(-1e3, 1e3).filter(lambda g: g == 0 or abs(g) > 1e-100)  # whose squares do not underflow
GRADIENTS = st.lists(NUMBERS, min_size=1, max_size=30)


def to_fractions(values):
    return [Fraction(float(value)) for value in values]


@given(
    st.floats(0.0, 0.999),
    GRADIENTS,
)
def test_bias_correction_is_the_average_divided_by_one_minus_rho_to_the_t(rho, gradients):
    rule = Rule(rho=rho, bias_correction=True)
    _, optimizer = run(rule, np.zeros(1), np.array(gradients)[:, None])
    mean_sq = Fraction(state(optimizer)["mean_sq"][0].item())
    average, decay = Fraction(0), Fraction(rho)
    for gradient in to_fractions(gradients):
        average = decay * average + (1 - decay) * gradient**2
    corrected = average / (1 - decay ** len(gradients))
    # 1 - rho^t in double precision is off by half a unit of rho^t, which counts 1 / (1 - rho^t) times; then each step
    # rounds four times. The decay of a step is 1 - fresh, off by half a unit of 1: that times the average before it.
    bound = (4 * len(gradients) + 4 / (1 - rho)) * ULP["float64"]
    largest = max(gradient**2 for gradient in to_fractions(gradients))
    assert abs(mean_sq - corrected) <= bound * corrected + len(gradients) * ULP["float64"] * largest


@given(
    st.floats(0.0, 0.999),
    GRADIENTS,
    NUMBERS,
)
def test_the_variance_is_the_mean_square_minus_the_squared_mean(rho, gradients, shift):
    gradients = [g + shift for g in gradients]
    _, optimizer = run(Rule(rho=rho, centered=True), np.zeros(1), np.array(gradients)[:, None])
    buffers = state(optimizer)
    square = mean = Fraction(0)
    fresh = Fraction(1.0 - rho)  # as the rule rounds it
    for gradient in to_fractions(gradients):
        square = Fraction(rho) * square + fresh * gradient**2
        mean = mean + fresh * (gradient - mean)
    largest = max(Fraction(g) ** 2 for g in gradients)
    variance = square - mean**2
    # Rounding moves the mean by units in the last place of the largest gradient, and may keep it 1 / (1 - rho) such
    # units from where it should be; both enter the variance with the deviation, at most twice the largest gradient.
    bound = (16 * len(gradients) + 4 / (1 - rho)) * ULP["float64"] * float(largest)
    assert abs(Fraction(buffers["grad_var"][0].item()) - variance) <= bound
    assert abs(float(Fraction(buffers["mean_grad"][0].item()) - mean)) <= bound / math.sqrt(largest or 1)
    assert buffers["grad_var"][0] >= 0


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
def test_the_largest_gradients_of_alternating_sign_stay_finite(rule, rho, dtype):
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
    buffers = state(optimizer)
    assert (np.abs(buffers["mean_grad"] - gradients) <= ULP["float32"] * gradients).all()
    gap = ULP["float32"] / (1 - rho) * gradients  # of the mean where rounding stops it
    assert (buffers["grad_var"] >= 0).all()
    floor = 2.0**-12 * gradients  # the root of the unit roundoff
    assert (np.sqrt(buffers["grad_var"]) <= np.maximum(gap, floor)).all()
