"""Promise: the NumPy front end steps trees of arrays in place, and reports, resets and copies its state."""

from __future__ import annotations

import contextlib
import copy
import math
import pickle
import signal
import sys
import threading
from collections import OrderedDict
from fractions import Fraction

import numpy as np
import pytest

import rmsprop
from cases import COVERING, ULP, Layer, leaves, same_bits, tree
from rmsprop import Rule, formula
from rmsprop.errors import InputError, InputTypeError

# ---- steps -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", COVERING.values(), ids=COVERING)
def test_a_tree_is_stepped_in_place_leaf_by_leaf(rule):
    params = tree()
    before = leaves(params)
    starts = {name: rule.init_value if name in ("mean_sq", "grad_var") else 0.0 for name in rule.buffers}
    expected = [(leaf.copy(), {n: np.full_like(leaf, value) for n, value in starts.items()}) for leaf in before]
    optimizer = rmsprop.RMSprop(params, lr=0.01, dialect=rule)
    for t in range(1, 6):
        grads = tree(seed=t)
        optimizer.step(grads)
        for k, grad in enumerate(leaves(grads)):
            param, buffers = expected[k]
            with np.errstate(all="ignore"):
                expected[k] = formula.step(param, grad, buffers, rule, lr=0.01, step=t)
    assert all(after is leaf for after, leaf in zip(leaves(params), before))
    for k, leaf in enumerate(before):
        assert same_bits(leaf, expected[k][0])
        for name in rule.buffers:
            assert same_bits(optimizer.buffers[name][k], expected[k][1][name])
    assert optimizer.steps.tolist() == [5, 5, 5, 5]
    assert optimizer.step_count == 5


def test_gradients_may_order_keys_differently_and_use_other_container_types():
    params = {"a": np.zeros(2), "b": [np.zeros(2), (np.zeros(3),)]}
    rmsprop.RMSprop(params, lr=0.1).step(OrderedDict(b=(np.zeros(2), [np.ones(3)]), a=np.ones(2)))
    assert (params["a"] != 0).all()
    assert (params["b"][0] == 0).all()
    assert (params["b"][1][0] != 0).all()


def test_a_missing_gradient_leaves_its_parameter_state_and_count_unchanged():
    rule = Rule(bias_correction=True, weight_decay=0.1, weight_decay_mode="decoupled")
    params = {"a": np.ones(2), "b": np.ones(2)}
    optimizer = rmsprop.RMSprop(params, lr=0.1, dialect=rule)
    optimizer.step({"a": np.ones(2), "b": None})
    assert (params["b"] == 1).all()
    assert (optimizer.buffers["mean_sq"][1] == 0).all()
    assert optimizer.steps.tolist() == [1, 0]
    optimizer.step({"a": None, "b": np.ones(2)})  # the first step of b, corrected as such
    assert np.array_equal(params["a"], params["b"])
    optimizer.step({"a": None, "b": None})
    assert (optimizer.step_count, optimizer.steps.tolist()) == (3, [1, 1])


@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray, lambda a: a.transpose(1, 2, 0)])
def test_parameters_may_have_any_dense_layout(layout):
    params = layout(np.random.default_rng(0).standard_normal((3, 4, 5)))
    grads = params.copy(order="K") * 2
    expected, _ = formula.step(params, grads, {"mean_sq": np.zeros_like(params)}, Rule(), lr=0.1)
    rmsprop.RMSprop(params, lr=0.1).step(grads)
    assert same_bits(params, expected)


def test_a_tree_may_hold_empty_and_zero_dimensional_arrays():
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
def test_a_gradient_of_another_dtype_layout_or_type_is_converted(change):
    param, expected = np.ones((3, 4), "float32"), np.ones((3, 4), "float32")
    grad = np.round(4 * np.random.default_rng(0).standard_normal((3, 4))).astype("float32")
    rmsprop.RMSprop({"w": param}, lr=0.1).step({"w": change(grad)})
    rmsprop.RMSprop({"w": expected}, lr=0.1).step({"w": grad})
    assert same_bits(param, expected)


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


@pytest.mark.skipif(sys.gettrace() is not None, reason="an interrupt within coverage would leave its lock closed")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timer")
@pytest.mark.skipif(not rmsprop.is_compiled(), reason="only the compiled step cannot be interrupted")
def test_a_keyboard_interrupt_never_separates_a_step_from_its_count():
    optimizer = rmsprop.RMSprop(np.zeros(8), lr=0.1)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for _ in range(100):
            with contextlib.suppress(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, 0.0005)
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

    param, expected = np.ones(3), np.ones(3)
    scheduled, by_hand = rmsprop.RMSprop(param, lr=lr), rmsprop.RMSprop(expected, lr=1.0)
    for t in range(4):
        scheduled.step(np.full(3, 0.5 + t))
        by_hand.step(np.full(3, 0.5 + t), lr=0.1 / (1 + t))
    assert seen == [0, 1, 2, 3]
    assert same_bits(param, expected)


def test_a_learning_rate_may_be_assigned_and_be_of_any_real_type():
    param, expected = np.ones(3), np.ones(3)
    a, b = rmsprop.RMSprop(param, lr=1), rmsprop.RMSprop(expected, lr=Fraction(1, 4))
    a.lr = np.float64(0.25)
    a.step(np.ones(3))
    b.step(np.ones(3))
    assert same_bits(param, expected)


BAD_LR = [
    *(
        (lr, InputError, f"lr: {float(lr)!r}, expected a finite number of at least 0")
        for lr in (math.nan, math.inf, -1e-9)
    ),
    (10**400, InputError, "lr: inf, expected a finite number of at least 0"),
    *((lr, InputTypeError, f"lr: {lr!r}, expected a number or a function of the step") for lr in ("0.1", True, 1j)),
]


@pytest.mark.parametrize(("lr", "error", "message"), BAD_LR)
def test_a_bad_learning_rate_raises_at_construction_assignment_and_step(lr, error, message):
    param = np.ones(3)
    optimizer = rmsprop.RMSprop(param, lr=0.1)
    for use_lr in (
        lambda: rmsprop.RMSprop(param, lr=lr),
        lambda: setattr(optimizer, "lr", lr),
        lambda: optimizer.step(np.ones(3), lr=lr),
        lambda: rmsprop.RMSprop(param, lr=lambda step: lr).step(np.ones(3)),
    ):
        with pytest.raises(error) as caught:
            use_lr()
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


def test_corrected_weight_decay_divides_by_the_largest_learning_rate():
    rule = Rule(weight_decay=0.5, weight_decay_mode="decoupled_corrected", init="ones")
    param = np.ones(1)
    optimizer = rmsprop.RMSprop(param, lr=0.0, dialect=rule)
    expected = 1.0
    for lr, lr_max in ((0.1, 0.1), (0.4, 0.4), (0.2, 0.4)):
        optimizer.step(np.zeros(1), lr=lr)
        expected *= 1 - lr * lr / lr_max * 0.5
    np.testing.assert_allclose(param, expected, rtol=8 * ULP["float64"])


# ---- clipping and checking -------------------------------------------------------------------------------------------


def test_max_norm_scales_the_gradients_to_that_global_norm():
    rule = COVERING["torch"]
    params, expected = tree(), tree()
    clipped = rmsprop.RMSprop(params, lr=0.01, dialect=rule, max_norm=1.5)
    plain = rmsprop.RMSprop(expected, lr=0.01, dialect=rule)
    for t in range(1, 6):
        grads = tree(seed=t)
        norm = math.sqrt(math.fsum(float(x) ** 2 for leaf in leaves(grads) for x in np.ravel(leaf)))
        assert norm > 1.5
        clipped.step(grads)
        assert abs(clipped.grad_norm - norm) <= 4 * ULP["float64"] * norm
        for leaf in leaves(grads):
            leaf *= 1.5 / norm
        plain.step(grads)
    for a, b in zip(leaves(params), leaves(expected)):
        np.testing.assert_allclose(a, b, rtol=8 * ULP["float32"], atol=8 * ULP["float32"])


def test_a_missing_gradient_does_not_count_in_the_norm():
    params = {"a": np.zeros(2), "b": np.zeros(2)}
    optimizer = rmsprop.RMSprop(params, lr=0.1, max_norm=1.0)
    assert math.isnan(optimizer.grad_norm)
    optimizer.step({"a": np.array([3.0, 4.0]), "b": None})
    assert optimizer.grad_norm == 5.0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_check_finite_raises_with_the_name_of_the_gradient(bad):
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
    optimizer.step(tree(seed=2))  # the optimizer can still be used


# ---- effective learning rate, mean square, repr, reset, copies -------------------------------------------------------


@pytest.mark.parametrize("rule", COVERING.values(), ids=COVERING)
def test_effective_lr_times_the_gradient_is_the_update(rule):
    rule = rule.replace(weight_decay=0.0, weight_decay_mode="none", buffer="none", momentum=0.0, nesterov="none")
    rng = np.random.default_rng(0)
    params = {"w": np.zeros(50)}
    optimizer = rmsprop.RMSprop(params, lr=0.5, dialect=rule)
    for _ in range(4):
        params["w"][...] = 0
        grad = rng.uniform(0.5, 2.0, 50)
        optimizer.step({"w": grad})
        sign = -1 if rule.maximize else 1
        effective = optimizer.effective_lr()["w"]
        np.testing.assert_allclose(-params["w"] / (sign * grad), effective, rtol=16 * ULP["float64"])


def test_effective_lr_uses_the_schedule_and_the_denominator():
    optimizer = rmsprop.RMSprop(np.zeros(1), lr=lambda step: 0.1 * (step + 1))
    assert optimizer.effective_lr() == 0.1 / math.sqrt(1e-8)
    for grad in (3.0, 1.0):
        optimizer.step(np.array([grad]))
    square = 0.9 * (0.1 * 9.0) + 0.1 * 1.0
    np.testing.assert_allclose(optimizer.effective_lr(), 0.2 / math.sqrt(square + 1e-8), rtol=8 * ULP["float64"])
    assert rmsprop.RMSprop(np.zeros(1), lr=0.1, dialect=Rule(eps=0.0)).effective_lr() == [math.inf]


@pytest.mark.parametrize("centered", [False, True])
def test_mean_square_is_a_copy_of_the_average_of_squared_gradients(centered):
    params = {"w": np.zeros(3)}
    optimizer = rmsprop.RMSprop(params, lr=0.1, dialect=Rule(centered=centered))
    expected = np.zeros(3)
    for t in range(1, 30):
        grad = np.array([1.0, -2.0, 0.1]) * t
        optimizer.step({"w": grad})
        expected = 0.9 * expected + 0.1 * grad**2
    np.testing.assert_allclose(optimizer.mean_square()["w"], expected, rtol=64 * ULP["float64"])
    optimizer.mean_square()["w"][...] = -1
    np.testing.assert_allclose(optimizer.mean_square()["w"], expected, rtol=64 * ULP["float64"])


@pytest.mark.parametrize("rule", COVERING.values(), ids=COVERING)
def test_reset_state_keeps_only_the_parameters(rule):
    grads = [tree(seed=t) for t in range(3)]
    params = tree()
    optimizer = rmsprop.RMSprop(params, lr=0.1, dialect=rule)
    for grad in grads:
        optimizer.step(grad)
    expected = copy.deepcopy(params)
    optimizer.reset_state()
    fresh = rmsprop.RMSprop(expected, lr=0.1, dialect=rule)
    assert (optimizer.step_count, optimizer.steps.tolist()) == (0, [0, 0, 0, 0])
    for grad in grads:
        optimizer.step(grad)
        fresh.step(grad)
    assert all(same_bits(a, b) for a, b in zip(leaves(params), leaves(expected)))


def test_repr_shows_sizes_lr_dialect_and_rule():
    optimizer = rmsprop.RMSprop({"w": np.zeros((1000, 2)), "b": np.zeros(2)}, lr=0.001)
    assert repr(optimizer) == f"RMSprop(2 arrays, 2,002 elements, lr=0.001, dialect='rmsprop', {Rule()!r})"
    assert "lr=a function" in repr(rmsprop.RMSprop(np.zeros(2), lr=lambda step: 0.1))


@pytest.mark.parametrize("make_copy", [copy.deepcopy, lambda optimizer: pickle.loads(pickle.dumps(optimizer))])
def test_a_copied_optimizer_continues_bit_for_bit_and_shares_no_memory(make_copy):
    original = rmsprop.RMSprop(tree(), lr=0.1, dialect=COVERING["graves"])
    original.step(tree(seed=1))
    other = make_copy(original)
    original.step(tree(seed=2))
    changed = [leaf.copy() for leaf in leaves(original.params)]
    other.step(tree(seed=2))
    assert all(same_bits(a, b) for a, b in zip(leaves(other.params), changed))
    assert not any(np.shares_memory(a, b) for a, b in zip(leaves(other.params), leaves(original.params)))


def test_effective_lr_and_mean_square_have_the_structure_of_the_parameters():
    params = tree()
    optimizer = rmsprop.RMSprop(params, lr=0.1)
    for result in (optimizer.effective_lr(), optimizer.mean_square()):
        assert isinstance(result["head"], Layer)
        assert [leaf.shape for leaf in leaves(result)] == [leaf.shape for leaf in leaves(params)]
