"""The NumPy front end: trees of arrays stepped in place, and what it says when something does not fit."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
from collections import OrderedDict
from fractions import Fraction

import numpy as np
import pytest

import rmsprop
from cases import COVERING, ULP, leaves, random_arrays, same_bits, tree
from rmsprop import Rule, formula
from rmsprop.errors import InputError, InputTypeError

# ---- steps -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", COVERING.values(), ids=COVERING)
def test_a_tree_is_stepped_in_place_leaf_by_leaf(rule):
    params = tree()
    before = leaves(params)
    expected = [(leaf.copy(), {n: np.full_like(leaf, start(rule, n)) for n in rule.buffers}) for leaf in before]
    optimizer = rmsprop.RMSprop(params, lr=0.01, dialect=rule)
    for t in range(1, 6):
        grads = tree(seed=t)
        optimizer.step(grads)
        for k, grad in enumerate(leaves(grads)):
            param, buffers = expected[k]
            with np.errstate(all="ignore"):
                expected[k] = formula.step(param, grad, buffers, rule, lr=0.01, step=t)
    assert all(mine is leaf for mine, leaf in zip(leaves(params), before))
    for k, leaf in enumerate(before):
        assert same_bits(leaf, expected[k][0])
        for name in rule.buffers:
            assert same_bits(optimizer.buffers[name][k], expected[k][1][name])
    assert optimizer.steps.tolist() == [5, 5, 5, 5]
    assert optimizer.step_count == 5


def start(rule, name):
    return rule.init_value if name in ("mean_sq", "grad_var") else 0.0


def test_an_array_alone_is_a_tree():
    param = np.array([0.2, 0.4, 0.6])
    rmsprop.RMSprop(param, lr=0.01).step(np.array([-0.5, 0.3, 0.24]))
    expected = [p - 0.01 * g / math.sqrt(0.1 * g * g + 1e-8) for p, g in ((0.2, -0.5), (0.4, 0.3), (0.6, 0.24))]
    np.testing.assert_allclose(param, expected, rtol=4 * ULP["float64"])


def test_keys_may_stand_in_another_order_and_dicts_be_of_another_kind():
    params = {"a": np.zeros(2), "b": np.ones(3)}
    optimizer = rmsprop.RMSprop(params, lr=0.1)
    optimizer.step(OrderedDict(b=np.zeros(3), a=np.ones(2)))
    assert (params["a"] != 0).all()
    assert (params["b"] == 1).all()


def test_lists_and_tuples_stand_for_each_other():
    params = [np.zeros(2), (np.zeros(3),)]
    rmsprop.RMSprop(params, lr=0.1).step((np.ones(2), [np.ones(3)]))
    assert (params[1][0] != 0).all()


def test_a_missing_gradient_leaves_its_parameter_statistics_and_count_alone():
    rule = Rule(bias_correction=True, weight_decay=0.1, weight_decay_mode="decoupled")
    params = {"a": np.ones(2), "b": np.ones(2)}
    optimizer = rmsprop.RMSprop(params, lr=0.1, dialect=rule)
    optimizer.step({"a": np.ones(2), "b": None})
    assert (params["b"] == 1).all()
    assert (optimizer.buffers["mean_sq"][1] == 0).all()
    assert optimizer.steps.tolist() == [1, 0]
    optimizer.step({"a": None, "b": np.ones(2)})  # the first step of b, corrected as such
    assert np.array_equal(params["a"], params["b"])


def test_no_gradient_at_all_is_a_step_that_does_nothing():
    param = np.ones(2)
    optimizer = rmsprop.RMSprop(param, lr=0.1)
    optimizer.step(None)
    assert (param == 1).all()
    assert (optimizer.step_count, optimizer.steps.tolist()) == (1, [0])


@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray, lambda a: a.transpose(1, 2, 0)])
def test_parameters_of_any_dense_layout_are_taken(layout):
    params = layout(np.random.default_rng(0).standard_normal((3, 4, 5)))
    grads = params.copy(order="K") * 2
    expected, _ = formula.step(params, grads, {"mean_sq": np.zeros_like(params)}, Rule(), lr=0.1)
    rmsprop.RMSprop(params, lr=0.1).step(grads)
    assert same_bits(params, expected)


def test_empty_arrays_and_numbers_in_the_tree_are_taken():
    params = {"none": np.zeros((0, 3)), "one": np.zeros(())}
    rmsprop.RMSprop(params, lr=0.1).step({"none": np.zeros((0, 3)), "one": np.ones(())})
    assert params["one"] < 0


@pytest.mark.parametrize(
    "change",
    [
        np.asfortranarray,
        lambda g: np.repeat(g, 2, axis=1)[:, ::2],
        lambda g: g.astype("float64"),
        lambda g: g.astype("float16"),
        lambda g: g.astype("longdouble"),
        lambda g: g.astype("int64"),
        lambda g: g.astype(">f4"),
        lambda g: g.tolist(),
        lambda g: g.view(np.matrix),
    ],
    ids=["order", "gaps", "float64", "float16", "longdouble", "int", "byte order", "list", "matrix"],
)
def test_a_gradient_in_another_form_is_copied(change):
    ours, theirs = np.ones((3, 4), "float32"), np.ones((3, 4), "float32")
    grad = np.round(4 * np.random.default_rng(0).standard_normal((3, 4))).astype("float32")
    rmsprop.RMSprop({"w": ours}, lr=0.1).step({"w": change(grad)})
    rmsprop.RMSprop({"w": theirs}, lr=0.1).step({"w": grad})
    assert same_bits(ours, theirs)


def test_a_finite_gradient_beyond_the_dtype_stays_finite():
    param = np.ones(4, "float32")
    rmsprop.RMSprop(param, lr=0.1).step(np.array([1e300, -1e300, np.inf, np.nan]))
    np.testing.assert_allclose(param, [1 - 0.1 / math.sqrt(0.1), 1 + 0.1 / math.sqrt(0.1), np.nan, np.nan], rtol=1e-6)


def test_steps_from_several_threads_add_up():
    param = np.zeros(50_000)
    optimizer = rmsprop.RMSprop(param, lr=0.0, dialect=Rule(rho=1.0, init="ones"))

    def work():
        for _ in range(50):
            optimizer.step(np.ones(50_000), lr=2.0**-4)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (optimizer.step_count, optimizer.steps.tolist()) == (200, [200])
    np.testing.assert_allclose(param, -200 * 2.0**-4, rtol=1e-6)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timer")
@pytest.mark.skipif(not rmsprop.compiled(), reason="only the compiled step cannot be interrupted")
def test_an_interrupt_never_separates_a_step_from_its_count():
    optimizer = rmsprop.RMSprop(np.zeros(8), lr=0.1)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for _ in range(100):
            signal.setitimer(signal.ITIMER_REAL, 0.0005)
            with contextlib.suppress(KeyboardInterrupt):
                while True:
                    optimizer.step(np.ones(8))
            assert optimizer.step_count == optimizer.steps[0]
    finally:
        signal.signal(signal.SIGALRM, before)


# ---- the learning rate -----------------------------------------------------------------------------------------------


def test_a_learning_rate_may_be_a_function_of_the_step():
    seen = []

    def lr(step):
        seen.append(step)
        return 0.1 / (1 + step)

    ours, theirs = np.ones(3), np.ones(3)
    scheduled, by_hand = rmsprop.RMSprop(ours, lr=lr), rmsprop.RMSprop(theirs, lr=1.0)
    for t in range(4):
        scheduled.step(np.full(3, 0.5 + t))
        by_hand.step(np.full(3, 0.5 + t), lr=0.1 / (1 + t))
    assert seen == [0, 1, 2, 3]
    assert same_bits(ours, theirs)


def test_a_learning_rate_may_be_assigned_and_of_any_real_type():
    ours, theirs = np.ones(3), np.ones(3)
    a, b = rmsprop.RMSprop(ours, lr=1), rmsprop.RMSprop(theirs, lr=Fraction(1, 4))
    a.lr = np.float64(0.25)
    a.step(np.ones(3))
    b.step(np.ones(3))
    assert same_bits(ours, theirs)


BAD_LR = [
    (math.nan, InputError, "lr: nan, expected a finite number of at least 0"),
    (math.inf, InputError, "lr: inf, expected a finite number of at least 0"),
    (-1e-9, InputError, "lr: -1e-09, expected a finite number of at least 0"),
    (10**400, InputError, "lr: inf, expected a finite number of at least 0"),
    ("0.1", InputTypeError, "lr: '0.1', expected a number or a function of the step"),
    (True, InputTypeError, "lr: True, expected a number or a function of the step"),
    (1j, InputTypeError, "lr: 1j, expected a number or a function of the step"),
]


@pytest.mark.parametrize(("lr", "error", "message"), BAD_LR)
def test_a_learning_rate_out_of_its_domain_is_refused_wherever_it_comes_from(lr, error, message):
    param = np.ones(3)
    optimizer = rmsprop.RMSprop(param, lr=0.1)
    for refused in (
        lambda: rmsprop.RMSprop(param, lr=lr),
        lambda: setattr(optimizer, "lr", lr),
        lambda: optimizer.step(np.ones(3), lr=lr),
        lambda: rmsprop.RMSprop(param, lr=lambda step: lr).step(np.ones(3)),
    ):
        with pytest.raises(error) as caught:
            refused()
        assert str(caught.value) == message
    assert (param == 1).all()
    assert optimizer.step_count == 0


def test_an_exception_in_the_learning_rate_function_changes_nothing():
    param = np.ones(3)
    optimizer = rmsprop.RMSprop(param, lr=lambda step: 1 / step)
    with pytest.raises(ZeroDivisionError):
        optimizer.step(np.ones(3))
    assert (param == 1).all()
    assert optimizer.steps.tolist() == [0]


def test_the_corrected_decay_remembers_the_largest_learning_rate():
    rule = Rule(weight_decay=0.5, weight_decay_mode="decoupled_corrected", init="ones")
    param = np.ones(1)
    optimizer = rmsprop.RMSprop(param, lr=0.0, dialect=rule)
    expected = 1.0
    for lr, lr_max in ((0.1, 0.1), (0.4, 0.4), (0.2, 0.4)):
        optimizer.step(np.zeros(1), lr=lr)
        expected *= 1 - lr * lr / lr_max * 0.5
    np.testing.assert_allclose(param, expected, rtol=8 * ULP["float64"])


# ---- clipping and checking -------------------------------------------------------------------------------------------


def test_clipping_is_clipping_by_hand():
    rule = COVERING["torch"]
    ours, theirs = tree(), tree()
    clipped = rmsprop.RMSprop(ours, lr=0.01, dialect=rule, max_norm=1.5)
    plain = rmsprop.RMSprop(theirs, lr=0.01, dialect=rule)
    for t in range(1, 6):
        grads = tree(seed=t)
        norm = math.sqrt(math.fsum(float(x) ** 2 for leaf in leaves(grads) for x in np.ravel(leaf)))
        assert norm > 1.5
        clipped.step(grads)
        assert abs(clipped.grad_norm - norm) <= 4 * ULP["float64"] * norm
        for leaf in leaves(grads):
            leaf *= 1.5 / norm
        plain.step(grads)
    for a, b in zip(leaves(ours), leaves(theirs)):
        np.testing.assert_allclose(a, b, rtol=8 * ULP["float32"], atol=8 * ULP["float32"])


def test_a_missing_gradient_does_not_count_in_the_norm():
    params = {"a": np.zeros(2), "b": np.zeros(2)}
    optimizer = rmsprop.RMSprop(params, lr=0.1, max_norm=1.0)
    optimizer.step({"a": np.array([3.0, 4.0]), "b": None})
    assert optimizer.grad_norm == 5.0


def test_the_norm_is_nan_where_nothing_asked_for_it():
    optimizer = rmsprop.RMSprop(np.zeros(2), lr=0.1)
    optimizer.step(np.ones(2))
    assert math.isnan(optimizer.grad_norm)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_is_refused_when_asked_and_named(bad):
    params = tree()
    before = [leaf.copy() for leaf in leaves(params)]
    optimizer = rmsprop.RMSprop(params, lr=0.1, check_finite=True)
    grads = tree(seed=1)
    grads["body"][1]["scale"][2] = bad
    with pytest.raises(InputError) as caught:
        optimizer.step(grads)
    assert str(caught.value) == "grads['body'][1]['scale']: NaN or infinity, expected finite numbers"
    assert all(same_bits(a, b) for a, b in zip(leaves(params), before))
    assert not optimizer.steps.any()
    optimizer.step(tree(seed=2))  # and the next gradient is welcome


def test_random_arrays_of_a_run_agree_between_lists_and_single_arrays():
    rule = COVERING["tensorflow"]
    param, grad, _ = random_arrays(rule, 1000, "float32")
    whole, pieces = param.copy(), [part.copy() for part in np.split(param, 10)]
    rmsprop.RMSprop(whole, lr=0.1, dialect=rule).step(grad)
    rmsprop.RMSprop(pieces, lr=0.1, dialect=rule).step([part.copy() for part in np.split(grad, 10)])
    assert same_bits(whole, np.concatenate(pieces))
