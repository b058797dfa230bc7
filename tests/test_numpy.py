"""The NumPy front end: trees of arrays stepped in place, and what it says when something does not fit."""

from __future__ import annotations

import copy
import math
import os
import pickle
import re
import subprocess
import sys
import threading
from collections import OrderedDict, defaultdict, namedtuple
from fractions import Fraction

import numpy as np
import pytest

import rmsprop
from cases import COVERING, ULP, random_arrays, same_bits
from rmsprop import Rule, reference
from rmsprop.errors import InputError, InputTypeError

Layer = namedtuple("Layer", "weight bias")


def tree(seed=0, dtype="float32"):
    rng = np.random.default_rng(seed)

    def array(*shape):
        return rng.standard_normal(shape).astype(dtype)

    return {"body": [array(3, 4), {"scale": array(4)}], "head": Layer(array(4, 2), array())}


def leaves(tree):
    return [tree["body"][0], tree["body"][1]["scale"], tree["head"].weight, tree["head"].bias]


PATHS = ["['body'][0]", "['body'][1]['scale']", "['head'][0]", "['head'][1]"]


# ---- steps -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", COVERING.values(), ids=COVERING)
def test_a_tree_is_stepped_in_place_leaf_by_leaf(rule):
    params = tree()
    before = leaves(params)
    expected = [(leaf.copy(), {n: np.full_like(leaf, start(rule, n)) for n in rule.buffers}) for leaf in before]
    optimizer = rmsprop.RMSprop(params, lr=0.01, rule=rule)
    for t in range(1, 6):
        grads = tree(seed=t)
        optimizer.step(grads)
        for k, grad in enumerate(leaves(grads)):
            param, buffers = expected[k]
            with np.errstate(all="ignore"):
                expected[k] = reference.step(param, grad, buffers, rule, lr=0.01, step=t)
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
    optimizer = rmsprop.RMSprop(params, lr=0.1, rule=rule)
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
    expected, _ = reference.step(params, grads, {"mean_sq": np.zeros_like(params)}, Rule(), lr=0.1)
    rmsprop.RMSprop(params, lr=0.1).step(grads)
    assert same_bits(params, expected)


def test_empty_arrays_and_numbers_in_the_tree_are_taken():
    params = {"none": np.zeros((0, 3)), "one": np.zeros(())}
    rmsprop.RMSprop(params, lr=0.1).step({"none": np.zeros((0, 3)), "one": np.ones(())})
    assert params["one"] < 0


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
    optimizer = rmsprop.RMSprop(param, lr=0.0, rule=rule)
    expected = 1.0
    for lr, lr_max in ((0.1, 0.1), (0.4, 0.4), (0.2, 0.4)):
        optimizer.step(np.zeros(1), lr=lr)
        expected *= 1 - lr * lr / lr_max * 0.5
    np.testing.assert_allclose(param, expected, rtol=8 * ULP["float64"])


# ---- clipping and checking -------------------------------------------------------------------------------------------


def test_clipping_is_clipping_by_hand():
    rule = COVERING["torch"]
    ours, theirs = tree(), tree()
    clipped = rmsprop.RMSprop(ours, lr=0.01, rule=rule, max_norm=1.5)
    plain = rmsprop.RMSprop(theirs, lr=0.01, rule=rule)
    for t in range(1, 6):
        grads = tree(seed=t)
        norm = math.sqrt(math.fsum(float(x) ** 2 for leaf in leaves(grads) for x in np.ravel(leaf)))
        assert norm > 1.5
        clipped.step(grads)
        assert abs(clipped.grad_norm - norm) <= 4 * ULP["float64"] * norm
        scale = 1.5 / norm
        head = Layer(grads["head"].weight * np.float32(scale), grads["head"].bias * np.float32(scale))
        body = [grads["body"][0] * np.float32(scale), {"scale": grads["body"][1]["scale"] * np.float32(scale)}]
        plain.step({"body": body, "head": head})
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


# ---- refused at construction -----------------------------------------------------------------------------------------

FROZEN = np.zeros(3)
FROZEN.flags.writeable = False
SHARED = np.zeros(6)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({}, InputError, "params: no array in the tree, expected at least one"),
        ([{}, ()], InputError, "params: no array in the tree, expected at least one"),
        ({"w": [1.0]}, InputTypeError, "params['w'][0]: float, expected a NumPy array"),
        ([np.zeros(2), None], InputTypeError, "params[1]: NoneType, expected a NumPy array"),
        (np.zeros(2, int), InputTypeError, "params: int64, expected float32 or float64"),
        ({"w": np.zeros(2, "float16")}, InputTypeError, "params['w']: float16, expected float32 or float64"),
        (FROZEN, InputError, "params: read-only, expected a writable array"),
        (
            {"w": SHARED[::2]},
            InputError,
            "params['w']: shape (3,) with strides (2,) in elements leaves gaps, expected dense memory; pass a copy",
        ),
        (
            {"a": SHARED, "b": SHARED[:2]},
            InputError,
            "params['b']: shares memory with params['a'], expected memory of its own",
        ),
    ],
)
def test_parameters_that_no_step_could_take_are_refused_at_construction(params, error, message):
    with pytest.raises(error) as caught:
        rmsprop.RMSprop(params, lr=0.1)
    assert type(caught.value) is error
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("option", "error", "message"),
    [
        ({"rule": "tensorflow1"}, InputTypeError, "rule: a str, expected a rmsprop.Rule"),
        ({"max_norm": 0.0}, InputError, "max_norm: 0.0, expected a finite number above 0, or None for no clipping"),
        ({"max_norm": math.inf}, InputError, "max_norm: inf, expected a finite number above 0"),
        ({"max_norm": math.nan}, InputError, "max_norm: nan, expected a finite number above 0"),
        ({"max_norm": "1"}, InputTypeError, "max_norm: '1', expected a number or None"),
        ({"threads": -1}, InputError, "threads: -1, expected a whole number from 0 (the default) to 1024"),
        ({"threads": 1025}, InputError, "threads: 1025, expected a whole number"),
        ({"threads": 1.0}, InputError, "threads: 1.0, expected a whole number"),
        ({"threads": None}, InputError, "threads: None, expected a whole number"),
    ],
)
def test_options_out_of_their_domain_are_refused(option, error, message):
    with pytest.raises(error) as caught:
        rmsprop.RMSprop(np.zeros(2), lr=0.1, **option)
    assert str(caught.value).startswith(message)


# ---- a changed structure ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grads", "message"),
    [
        ({"a": np.ones(2)}, "grads: key 'b' is missing; the structure must stay that of params"),
        (
            {"a": np.ones(2), "b": [np.ones(3)], "c": 1},
            "grads: key 'c' is not in params; the structure must stay that of params",
        ),
        ({"a": np.ones(2), "c": [np.ones(3)]}, "grads: key 'b' is missing"),
        (defaultdict(list, a=np.ones(2), c=1), "grads: key 'b' is missing"),
        ([np.ones(2), [np.ones(3)]], "grads: a list, expected a dict like params"),
        (None, "grads: None, expected a dict like params"),
        ({"a": [np.ones(2)], "b": [np.ones(3)]}, "grads['a']: a list, expected one array like params['a']"),
        ({"a": np.ones(2), "b": np.ones(3)}, "grads['b']: a ndarray, expected a list of 1 like params['b']"),
        ({"a": np.ones(2), "b": []}, "grads['b']: length 0, expected 1 like params['b']"),
        ({"a": np.ones(2), "b": [np.ones((3, 1))]}, "grads['b'][0]: shape (3, 1), expected (3,) like params['b'][0]"),
        ({"a": np.ones(2, "float32"), "b": [np.ones(3)]}, "grads['a']: float32, expected float64 like params['a']"),
        ({"a": 1.0, "b": [np.ones(3)]}, "grads['a']: a float, expected a NumPy array"),
    ],
)
def test_gradients_of_another_structure_are_refused_and_nothing_changes(grads, message):
    params = {"a": np.ones(2), "b": [np.ones(3)]}
    optimizer = rmsprop.RMSprop(params, lr=0.1)
    with pytest.raises(InputError) as caught:
        optimizer.step(grads)
    assert str(caught.value).startswith(message)
    assert (params["a"] == 1).all()
    assert (params["b"][0] == 1).all()
    assert not optimizer.steps.any()
    assert optimizer.step_count == 0


# ---- what it tells ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", COVERING.values(), ids=COVERING)
def test_the_effective_learning_rate_is_what_the_gradient_was_multiplied_by(rule):
    rule = rule.replace(weight_decay=0.0, weight_decay_mode="none", buffer="none", momentum=0.0, nesterov="none")
    rng = np.random.default_rng(0)
    params = {"w": np.zeros(50)}
    optimizer = rmsprop.RMSprop(params, lr=0.5, rule=rule)
    for _ in range(4):
        params["w"][...] = 0
        grad = rng.uniform(0.5, 2.0, 50)
        optimizer.step({"w": grad})
        sign = -1 if rule.maximize else 1
        effective = optimizer.effective_lr()["w"]
        np.testing.assert_allclose(-params["w"] / (sign * grad), effective, rtol=16 * ULP["float64"])


def test_the_effective_learning_rate_is_that_of_the_formula():
    optimizer = rmsprop.RMSprop(np.zeros(1), lr=lambda step: 0.1 * (step + 1))
    assert optimizer.effective_lr() == 0.1 / math.sqrt(1e-8)
    for grad in (3.0, 1.0):
        optimizer.step(np.array([grad]))
    square = 0.9 * (0.1 * 9.0) + 0.1 * 1.0
    np.testing.assert_allclose(optimizer.effective_lr(), 0.2 / math.sqrt(square + 1e-8), rtol=8 * ULP["float64"])


def test_the_effective_learning_rate_of_a_zero_denominator_is_infinite():
    optimizer = rmsprop.RMSprop(np.zeros(1), lr=0.1, rule=Rule(eps=0.0))
    assert optimizer.effective_lr() == [math.inf]


@pytest.mark.parametrize("centered", [False, True])
def test_the_mean_square_is_the_average_of_squares(centered):
    params = {"w": np.zeros(3)}
    optimizer = rmsprop.RMSprop(params, lr=0.1, rule=Rule(centered=centered))
    expected = np.zeros(3)
    for t in range(1, 30):
        grad = np.array([1.0, -2.0, 0.1]) * t
        optimizer.step({"w": grad})
        expected = 0.9 * expected + 0.1 * grad**2
    np.testing.assert_allclose(optimizer.mean_square()["w"], expected, rtol=64 * ULP["float64"])
    optimizer.mean_square()["w"][...] = -1  # a copy
    np.testing.assert_allclose(optimizer.mean_square()["w"], expected, rtol=64 * ULP["float64"])


def test_what_it_tells_is_a_tree_like_the_parameters():
    params = tree()
    for told in (rmsprop.RMSprop(params, lr=0.1).effective_lr(), rmsprop.RMSprop(params, lr=0.1).mean_square()):
        assert isinstance(told["head"], Layer)
        assert [leaf.shape for leaf in leaves(told)] == [leaf.shape for leaf in leaves(params)]


@pytest.mark.parametrize("rule", COVERING.values(), ids=COVERING)
def test_a_reset_forgets_everything_but_the_parameters(rule):
    grads = [tree(seed=t) for t in range(3)]
    ours, theirs = tree(), tree()
    optimizer = rmsprop.RMSprop(ours, lr=0.1, rule=rule)
    for grad in grads:
        optimizer.step(grad)
    for mine, other in zip(leaves(ours), leaves(theirs)):
        other[...] = mine
    optimizer.reset_state()
    fresh = rmsprop.RMSprop(theirs, lr=0.1, rule=rule)
    assert (optimizer.step_count, optimizer.steps.tolist()) == (0, [0, 0, 0, 0])
    for grad in grads:
        optimizer.step(grad)
        fresh.step(grad)
    assert all(same_bits(a, b) for a, b in zip(leaves(ours), leaves(theirs)))


def test_the_repr_counts_and_names_the_rule():
    optimizer = rmsprop.RMSprop({"w": np.zeros((1000, 2)), "b": np.zeros(2)}, lr=0.001)
    assert repr(optimizer) == f"RMSprop(2 arrays, 2,002 elements, lr=0.001, {Rule()!r})"
    assert "lr=a function" in repr(rmsprop.RMSprop(np.zeros(2), lr=lambda step: 0.1))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda optimizer: pickle.loads(pickle.dumps(optimizer))])
def test_a_copy_goes_on_with_the_same_bits_and_shares_nothing(copied):
    original = rmsprop.RMSprop(tree(), lr=0.1, rule=COVERING["graves"])
    original.step(tree(seed=1))
    other = copied(original)
    original.step(tree(seed=2))
    changed = [leaf.copy() for leaf in leaves(original.params)]
    other.step(tree(seed=2))
    assert all(same_bits(a, b) for a, b in zip(leaves(other.params), changed))
    assert not any(np.shares_memory(a, b) for a, b in zip(leaves(other.params), leaves(original.params)))


# ---- threads and processes -------------------------------------------------------------------------------------------

compiled = pytest.mark.skipif(not rmsprop.compiled(), reason="the compiled module is not installed")


@compiled
@pytest.mark.parametrize("threads", [1, 2])
def test_another_thread_runs_during_a_step(threads):
    param, grad = np.ones(4_000_000, "float32"), np.ones(4_000_000, "float32")
    optimizer = rmsprop.RMSprop(param, lr=0.1, threads=threads)
    optimizer.step(grad)
    turns, done = [0], threading.Event()

    def other():
        while not done.is_set():
            turns[0] += 1
            done.wait(1e-5)  # hands the GIL back at once, so that only the step can keep it

    before = sys.getswitchinterval()
    thread = threading.Thread(target=other)
    thread.start()
    try:
        sys.setswitchinterval(1000.0)  # nobody is asked to hand the GIL over
        seen = []
        for _ in range(5):
            was = turns[0]
            optimizer.step(grad)
            seen.append(turns[0] - was)
    finally:
        sys.setswitchinterval(before)
        done.set()
        thread.join()
    assert max(seen) > 0


def run_script(text, **environment):
    """Run a script in a fresh interpreter and return what it printed."""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", text],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **environment},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


COUNT_THREADS = """
import os, numpy as np, rmsprop
def alive(): return len(os.listdir("/proc/self/task"))
param = np.ones(300_000, "float32"); grad = param.copy()
SETUP
before = alive()
optimizer = rmsprop.RMSprop(param, lr=0.1, threads=THREADS)
optimizer.step(grad)
print(alive() - before)
"""


@compiled
@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts threads in /proc, which is Linux only")
@pytest.mark.parametrize(
    ("setup", "threads", "started"),
    [("", 1, 0), ("", 3, 2), ("rmsprop.set_threads(1)", 0, 0), ("rmsprop.set_threads(3)", 0, 2)],
)
def test_the_number_of_threads_is_respected(setup, threads, started):
    script = COUNT_THREADS.replace("SETUP", setup).replace("THREADS", str(threads))
    assert int(run_script(script, OPENBLAS_NUM_THREADS="1")) == started


def test_the_default_number_of_threads_can_be_set_and_read():
    before = rmsprop.threads()
    assert before >= 1
    try:
        rmsprop.set_threads(1)
        assert rmsprop.threads() == 1
    finally:
        rmsprop.set_threads(0)
    assert rmsprop.threads() == before


FORK = """
import os, sys, numpy as np, rmsprop
param = np.ones(300_000, "float32"); grad = np.linspace(-1, 1, 300_000, dtype="float32")
optimizer = rmsprop.RMSprop(param, lr=0.1, threads=2, max_norm=1.0)
optimizer.step(grad)                       # the parent's threads exist now, the child's will not
read, write = os.pipe()
if os.fork() == 0:
    optimizer.step(grad)
    os.write(write, param[:1000].tobytes())
    os._exit(0)
optimizer.step(grad)
os.close(write)
child = b""
while chunk := os.read(read, 4096): child += chunk
os.wait()
print(child == param[:1000].tobytes())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_steps_after_a_threaded_step_of_its_parent():
    assert run_script(FORK).strip() == "True"


def test_the_messages_about_a_tree_name_its_paths():
    params = tree()
    optimizer = rmsprop.RMSprop(params, lr=0.1)
    for k, path in enumerate(PATHS):
        grads = tree(seed=1)
        wrong = [leaf.astype("float64") if i == k else leaf for i, leaf in enumerate(leaves(grads))]
        grads = {"body": [wrong[0], {"scale": wrong[1]}], "head": Layer(*wrong[2:])}
        with pytest.raises(InputTypeError, match=rf"^grads{re.escape(path)}: float64, expected float32 like params"):
            optimizer.step(grads)


def test_random_arrays_of_a_run_agree_between_lists_and_single_arrays():
    rule = COVERING["tensorflow"]
    param, grad, _ = random_arrays(rule, 1000, "float32")
    whole, pieces = param.copy(), [part.copy() for part in np.split(param, 10)]
    rmsprop.RMSprop(whole, lr=0.1, rule=rule).step(grad)
    rmsprop.RMSprop(pieces, lr=0.1, rule=rule).step([part.copy() for part in np.split(grad, 10)])
    assert same_bits(whole, np.concatenate(pieces))
