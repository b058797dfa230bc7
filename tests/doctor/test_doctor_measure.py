"""What the doctor measures: closed forms, and samples that agree with the whole."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from rmsprop import Rule
from rmsprop.doctor import Sample, measure
from rmsprop.doctor.grid import LIMIT, choose_grid as grid

RNG = np.random.default_rng(0)


def look(rule=None, *, shape=(8, 8), step=1000, lr=0.01, **arrays):
    buffers = {name: arrays.pop(name) for name in ("mean_sq", "grad_var", "mean_grad") if name in arrays}
    return measure(
        Sample(
            tensor="w",
            shape=shape,
            dtype="float32",
            step=step,
            lr=lr,
            rule=rule or Rule(eps=0.0),
            buffers=buffers,
            **arrays,
        )
    )


def test_the_quantiles_are_those_of_lr_over_the_denominator():
    square = RNG.random((40, 50)) + 0.1
    for rule, denominator in (
        (Rule(eps=1e-2, eps_mode="outside"), np.sqrt(square) + 1e-2),
        (Rule(eps=1e-2, eps_mode="inside"), np.sqrt(square + 1e-2)),
        (Rule(eps=0.5, eps_mode="max"), np.maximum(np.sqrt(square), 0.5)),
    ):
        found = look(rule, shape=(40, 50), mean_sq=square).effective_lr
        assert found == pytest.approx(np.quantile(0.01 / denominator, (0.05, 0.25, 0.5, 0.75, 0.95)), rel=0.01)


def test_ratios_of_a_known_step():
    param, grad = np.full((8, 8), 2.0), np.full((8, 8), 3.0)
    found = look(mean_sq=np.full((8, 8), 9.0), param=param, grad=grad, update=np.full((8, 8), -0.01), before=grad**2)
    assert found.update_to_weight == pytest.approx(0.005)
    assert found.step_over_lr == pytest.approx(1.0)
    assert found.decoupling == pytest.approx(1.0)
    assert (found.grad_rms, found.weight_rms, found.root_mean_sq) == pytest.approx((3.0, 2.0, 3.0))
    assert (found.stalled_share, found.eps_share, found.untouched_share) == (0.0, 0.0, 0.0)


def test_the_mean_square_before_the_step_is_found_backwards():
    grad, before = RNG.standard_normal((8, 8)), RNG.random((8, 8)) + 0.5
    after = 0.9 * before + 0.1 * grad**2
    told = look(mean_sq=after, grad=grad, before=before).decoupling
    assert look(mean_sq=after, grad=grad).decoupling == pytest.approx(told)
    assert told == pytest.approx((grad**2).sum() / before.sum())


@pytest.mark.parametrize("init", ["zeros", "ones"])
def test_decoupling_is_1_from_the_second_step_on_whatever_the_start(init):
    rule = Rule(rho=0.99, init=init)
    square = np.full((8, 8), rule.init_value)
    for step in range(1, 30):
        before, square = square, 0.99 * square + 0.01 * 4.0
        found = look(rule, step=step, mean_sq=square, grad=np.full((8, 8), 2.0), before=before).decoupling
        assert found == (pytest.approx(1.0, rel=1e-6) if step > 1 else None)


def test_elements_without_a_gradient_count_in_no_share():
    square = np.zeros((8, 8))
    square[:, :4] = 1.0
    found = look(Rule(eps=1e-3, eps_mode="outside"), mean_sq=square)
    assert (found.untouched_share, found.eps_share) == (0.5, 0.0)
    kept = Rule(rho=0.9, init="ones")
    remainder = np.where(square > 0, 0.9**100 + 1e-3, 0.9**100)
    assert look(kept, step=100, mean_sq=remainder).untouched_share == 0.5


def test_a_tensor_without_any_gradient_is_looked_at_without_fuss():
    found = look(mean_sq=np.zeros((8, 8)))
    assert (found.effective_lr, found.untouched_share) == (None, 1.0)


def test_a_collapsed_element_is_one_whose_variance_shrinks_the_denominator_100_times():
    variance = np.full((8, 8), 1.0)
    variance[0] = 1e-5  # a root of 0.0032
    found = look(Rule(centered=True, eps=0.0), grad_var=variance, mean_grad=np.ones((8, 8)))
    assert found.collapsed_share == 1 / 8
    held = Rule(centered=True, eps=0.01, eps_mode="inside")  # DQN's
    assert look(held, grad_var=variance, mean_grad=np.ones((8, 8))).collapsed_share == 0.0


def test_a_look_survives_json_even_with_numbers_that_json_lacks():
    first = look(mean_sq=np.full((8, 8), 1.0), param=np.full((8, 8), np.nan), lr=math.nan)
    line = first.to_json()
    assert "\n" not in line
    assert first.weight_rms is None
    assert first.lr is None
    assert Sample.from_json(line) == first
    assert Sample.from_json(line).full_rule == Rule(eps=0.0)
    json.loads(line, parse_constant=lambda word: pytest.fail(word))


@pytest.mark.parametrize("line", ["[]", "{}", '{"tensor": "w", "shape": 3}', '{"tensor": "w", "shape": [1], "x": 1}'])
def test_a_line_that_is_no_look_is_refused(line):
    with pytest.raises(ValueError, match="not a look"):
        Sample.from_json(line)


@pytest.mark.parametrize("shape", [(), (1,), (5,), (3, 4, 5), (10_000,), (70, 9000), (100_000, 3), (2, 1_000_000)])
def test_a_grid_is_within_the_tensor_and_the_limit_and_the_same_again(shape):
    chosen = grid(shape, seed=3)
    total = math.prod(shape)
    places = chosen.flat()
    assert places.size == chosen.rows.size * chosen.columns.size <= LIMIT
    assert places.size == total if total <= LIMIT else places.size > LIMIT // 2
    assert len(set(places.tolist())) == places.size
    assert 0 <= places.min() <= places.max() < total
    again = grid(shape, seed=3)
    assert np.array_equal(again.flat(), places)
    array = np.arange(total).reshape(shape)
    assert np.array_equal(chosen.take(array).ravel(), places)


def test_a_sample_estimates_the_whole():
    square = RNG.lognormal(sigma=2.0, size=(500, 600))
    chosen = grid(square.shape)
    rule = Rule(eps=1.0, eps_mode="outside")
    whole, some = (look(rule, shape=square.shape, mean_sq=array) for array in (square, chosen.take(square)))
    assert some.eps_share == pytest.approx(whole.eps_share, abs=4 * 0.5 / LIMIT**0.5)  # four standard errors
    assert some.effective_lr[2] == pytest.approx(whole.effective_lr[2], rel=0.1)
