"""What the doctor measures: closed forms, and samples that agree with the whole tensor."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from rmsprop import Rule
from rmsprop.doctor import Sample, measure
from rmsprop.doctor.measure import LIMIT, choose_grid

RNG = np.random.default_rng(0)
ONES = np.ones((8, 8))


def take_sample(rule=None, *, shape=(8, 8), step=1000, lr=0.01, **arrays):
    statistics = {name: arrays.pop(name) for name in ("mean_sq", "grad_var", "mean_grad") if name in arrays}
    return measure("w", rule or Rule(eps=0.0), statistics, shape=shape, dtype="float32", step=step, lr=lr, **arrays)


@pytest.mark.parametrize(
    ("eps", "mode", "denominator"),
    [
        (1e-2, "outside", lambda v: np.sqrt(v) + 1e-2),
        (1e-2, "inside", lambda v: np.sqrt(v + 1e-2)),
        (0.5, "max", lambda v: np.maximum(np.sqrt(v), 0.5)),
    ],
)
def test_the_quantiles_are_those_of_lr_over_the_denominator(eps, mode, denominator):
    square = RNG.random((40, 50)) + 0.1
    found = take_sample(Rule(eps=eps, eps_mode=mode), shape=(40, 50), mean_sq=square).effective_lr
    assert found == pytest.approx(np.quantile(0.01 / denominator(square), (0.05, 0.25, 0.5, 0.75, 0.95)), rel=0.01)


def test_ratios_of_a_known_step():
    grad = 3 * ONES
    found = take_sample(mean_sq=9 * ONES, param=2 * ONES, grad=grad, change=-0.01 * ONES, before={"mean_sq": grad**2})
    assert (found.update_to_weight, found.step_over_lr, found.decoupling) == pytest.approx((0.005, 1.0, 1.0))
    assert (found.grad_rms, found.weight_rms, found.root_mean_sq) == pytest.approx((3.0, 2.0, 3.0))
    assert (found.stalled_share, found.eps_share, found.untouched_share) == (0.0, 0.0, 0.0)


def test_the_mean_square_before_the_step_is_derived_where_it_is_not_known():
    grad, before = RNG.standard_normal((8, 8)), RNG.random((8, 8)) + 0.5
    after = 0.9 * before + 0.1 * grad**2
    known = take_sample(mean_sq=after, grad=grad, before={"mean_sq": before}).decoupling
    assert known == pytest.approx((grad**2).sum() / before.sum())
    assert take_sample(mean_sq=after, grad=grad).decoupling == pytest.approx(known)


@pytest.mark.parametrize("centered", [False, True])
def test_the_size_of_an_unknown_gradient_is_estimated_from_the_statistics(centered):
    rule = Rule(rho=0.9, centered=centered)
    grad, mean = RNG.standard_normal((8, 8)), RNG.standard_normal((8, 8)) * centered
    before = {"mean_sq": mean**2 + 1.0, "mean_grad": mean}
    after = {"mean_sq": 0.9 * before["mean_sq"] + 0.1 * grad**2, "mean_grad": 0.9 * mean + 0.1 * grad}
    found = take_sample(rule, **after, before=before)
    assert found.grad_rms == pytest.approx(np.sqrt((grad**2).mean()))
    assert take_sample(rule, **after).grad_rms is None


@pytest.mark.parametrize("centered", [False, True])
def test_averages_without_bias_correction_are_corrected(centered):
    rule = Rule(rho=0.9, centered=centered, bias_correction=True)
    statistics = {"mean_sq": 5 * ONES, "mean_grad": ONES}
    divided = {name: array / (1 - 0.9**3) for name, array in statistics.items()}
    raw, corrected = take_sample(rule, step=3, **statistics, is_corrected=False), take_sample(rule, step=3, **divided)
    assert raw.effective_lr == pytest.approx(corrected.effective_lr)


@pytest.mark.parametrize("init", ["zeros", "ones"])
def test_decoupling_is_1_from_the_second_step_whatever_the_start(init):
    rule = Rule(rho=0.99, init=init)
    square = rule.init_value * ONES
    for step in range(1, 30):
        before, square = square, 0.99 * square + 0.01 * 4.0
        found = take_sample(rule, step=step, mean_sq=square, grad=2 * ONES, before={"mean_sq": before}).decoupling
        assert found == (pytest.approx(1.0, rel=1e-6) if step > 1 else None)


def test_elements_without_a_gradient_count_in_no_share():
    square = np.zeros((8, 8))
    square[:, :4] = 1.0
    found = take_sample(Rule(eps=1e-3, eps_mode="outside"), mean_sq=square)
    assert (found.untouched_share, found.eps_share) == (0.5, 0.0)
    rest = np.where(square > 0, 0.9**100 + 1e-3, 0.9**100)  # of a start at 1
    assert take_sample(Rule(rho=0.9, init="ones"), step=100, mean_sq=rest).untouched_share == 0.5
    none = take_sample(mean_sq=np.zeros((8, 8)))
    assert (none.effective_lr, none.untouched_share) == (None, 1.0)


@pytest.mark.parametrize(
    ("options", "share"),
    [({"eps": 0.0}, 1 / 8), ({"eps": 0.01, "eps_mode": "inside"}, 0.0)],
    ids=["no eps", "DQN's eps"],
)
def test_a_collapsed_variance_makes_the_denominator_100_times_smaller(options, share):
    variance = ONES.copy()
    variance[0] = 1e-5  # a root of 0.0032
    assert take_sample(Rule(centered=True, **options), grad_var=variance, mean_grad=ONES).collapsed_share == share


def test_a_sample_survives_json_with_numbers_that_json_lacks():
    sample = take_sample(mean_sq=ONES, param=np.full((8, 8), np.nan), lr=math.nan)
    line = sample.to_json()
    assert (sample.weight_rms, sample.lr) == (None, None)
    assert Sample.from_json(line) == sample
    assert Sample.from_json(line).full_rule == Rule(eps=0.0)
    json.loads(line, parse_constant=pytest.fail)


@pytest.mark.parametrize("shape", [(), (1,), (5,), (3, 4, 5), (10_000,), (70, 9000), (100_000, 3), (2, 1_000_000)])
@pytest.mark.parametrize("name", ["w", "layer.weight"])
def test_a_grid_is_within_the_tensor_and_the_limit_and_reproducible(shape, name):
    grid = choose_grid(shape, name, seed=3)
    total = math.prod(shape)
    places = grid.flat()
    assert places.size == grid.rows.size * grid.columns.size <= LIMIT
    assert places.size == total if total <= LIMIT else places.size > LIMIT // 2
    assert np.array_equal(choose_grid(shape, name, seed=3).flat(), places)
    array = np.arange(total).reshape(shape)
    matrix = np.moveaxis(array, -1, 0) if name == "w" and len(shape) > 1 else array
    assert np.array_equal(grid.take(array).ravel(), matrix.ravel()[places])


def test_a_sample_estimates_the_whole():
    square = RNG.lognormal(sigma=2.0, size=(500, 600))
    part = choose_grid(square.shape).take(square)
    rule = Rule(eps=1.0, eps_mode="outside")
    whole, sample = (take_sample(rule, shape=square.shape, mean_sq=array) for array in (square, part))
    assert sample.eps_share == pytest.approx(whole.eps_share, abs=4 * 0.5 / LIMIT**0.5)  # four standard errors
    assert sample.effective_lr[2] == pytest.approx(whole.effective_lr[2], rel=0.1)
