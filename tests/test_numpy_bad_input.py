"""Input that raises in the NumPy front end, at construction and at a step; nothing has changed then."""

from __future__ import annotations

import math
import re
from collections import defaultdict

import numpy as np
import pytest

import rmsprop
from cases import Layer, leaves, tree
from rmsprop.errors import InputError, InputTypeError

PATHS = ["['body'][0]", "['body'][1]['scale']", "['head'][0]", "['head'][1]"]


# ---- at construction -------------------------------------------------------------------------------------------------

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
        ({"w": np.ma.zeros(2)}, InputTypeError, "params['w']: MaskedArray, expected a NumPy array"),
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
def test_parameters_that_no_step_could_take_raise(params, error, message):
    with pytest.raises(error) as caught:
        rmsprop.RMSprop(params, lr=0.1)
    assert type(caught.value) is error
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("option", "error", "message"),
    [
        ({"dialect": 3}, InputTypeError, "dialect: a int, expected a dialect's name or a rmsprop.Rule"),
        ({"max_norm": 0.0}, InputError, "max_norm: 0.0, expected a finite number above 0, or None for no clipping"),
        ({"max_norm": 10**400}, InputError, "max_norm: inf, expected a finite number above 0"),
        ({"max_norm": math.inf}, InputError, "max_norm: inf, expected a finite number above 0"),
        ({"max_norm": math.nan}, InputError, "max_norm: nan, expected a finite number above 0"),
        ({"max_norm": "1"}, InputTypeError, "max_norm: '1', expected a number or None"),
        ({"threads": -1}, InputError, "threads: -1, expected a whole number from 0 (the default) to 1024"),
        ({"threads": 1025}, InputError, "threads: 1025, expected a whole number"),
        ({"threads": 1.0}, InputError, "threads: 1.0, expected a whole number"),
        ({"threads": None}, InputError, "threads: None, expected a whole number"),
        ({"check_finite": "no"}, InputTypeError, "check_finite: 'no', expected True or False"),
    ],
)
def test_options_out_of_their_domain_raise(option, error, message):
    with pytest.raises(error) as caught:
        rmsprop.RMSprop(np.zeros(2), lr=0.1, **option)
    assert str(caught.value).startswith(message)


def test_the_rule_cannot_be_assigned():
    optimizer = rmsprop.RMSprop(np.zeros(2), lr=0.1)
    for name in ("rule", "dialect"):
        with pytest.raises(AttributeError, match=name):
            setattr(optimizer, name, rmsprop.Rule(centered=True))


# ---- gradients -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grads", "message"),
    [
        ({"a": np.ones(2)}, "grads: key 'b' is missing; the structure must stay that of params"),
        ({"a": np.ones(2), "b": [np.ones(3)], "c": 1}, "grads: key 'c' is not in params; the structure must stay"),
        ({"a": np.ones(2), "c": [np.ones(3)]}, "grads: key 'b' is missing"),
        (defaultdict(list, a=np.ones(2), c=1), "grads: key 'b' is missing"),
        ([np.ones(2), [np.ones(3)]], "grads: a list, expected a dict like params"),
        (None, "grads: None, expected a dict like params"),
        ({"a": {"x": np.ones(2)}, "b": [np.ones(3)]}, "grads['a']: a dict, expected one array like params['a']"),
        ({"a": np.ones(2), "b": np.ones(3)}, "grads['b']: a ndarray, expected a list of 1 like params['b']"),
        ({"a": np.ones(2), "b": []}, "grads['b']: length 0, expected 1 like params['b']"),
        (
            {"a": np.ones(2), "b": [np.ones((3, 1))]},
            "grads['b'][0]: shape (3, 1), expected (3,) like params['b'][0]; use reshape(3,)",
        ),
        ({"a": [[1.0, 2.0]], "b": [None]}, "grads['a']: shape (1, 2), expected (2,) like params['a']; use reshape(2,)"),
        ({"a": 1.0, "b": [np.ones(3)]}, "grads['a']: shape (), expected (2,) like params['a']"),
        ({"a": "ab", "b": [None]}, "grads['a']: a str, expected a NumPy array"),
        ({"a": [1.0, [2.0]], "b": [None]}, "grads['a']: a list, expected a NumPy array"),
        ({"a": np.ones(2) * 1j, "b": [None]}, "grads['a']: complex128, expected float64 like params['a']"),
        ({"a": np.ones(2, bool), "b": [None]}, "grads['a']: bool, expected float64 like params['a']"),
        ({"a": np.ma.array([1.0, 2.0]), "b": [None]}, "grads['a']: a masked array, whose mask would be ignored"),
    ],
)
def test_gradients_that_do_not_fit_raise_and_nothing_changes(grads, message):
    params = {"a": np.ones(2), "b": [np.ones(3)]}
    optimizer = rmsprop.RMSprop(params, lr=0.1)
    with pytest.raises(InputError) as caught:
        optimizer.step(grads)
    assert str(caught.value).startswith(message)
    assert (params["a"] == 1).all()
    assert (params["b"][0] == 1).all()
    assert not optimizer.steps.any()
    assert (optimizer.step_count, optimizer.lr_max) == (0, 0.0)


def test_the_messages_about_a_tree_name_its_paths():
    params = tree()
    optimizer = rmsprop.RMSprop(params, lr=0.1)
    for k, path in enumerate(PATHS):
        grads = tree(seed=1)
        wrong = [leaf.astype("complex64") if i == k else leaf for i, leaf in enumerate(leaves(grads))]
        grads = {"body": [wrong[0], {"scale": wrong[1]}], "head": Layer(*wrong[2:])}
        with pytest.raises(InputTypeError, match=rf"^grads{re.escape(path)}: complex64, expected float32 like params"):
            optimizer.step(grads)


@pytest.mark.parametrize("deep", ["itself", "5,000 lists"])
def test_a_tree_without_an_end_raises(deep):
    params = [np.zeros(2)]
    if deep == "itself":
        params.append(params)
    else:
        for _ in range(5000):
            params = [params]
    with pytest.raises(InputError, match=r"^params: a tree that contains itself, or is nested too deeply$"):
        rmsprop.RMSprop(params, lr=0.1)
