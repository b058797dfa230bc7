"""Bad input raises before anything has changed, and the message says what, where and what to do."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import re

import numpy as np
import pytest

from border_calls import BORDER_RULE, REFUSED, Call
from rmsprop import Rule
from rmsprop._step import StepArgs
from rmsprop.errors import InputError, InputTypeError, RMSpropError

NAMES = ["['a']", "['b']['c']", "[0]"]


@pytest.fixture(params=["_core", "_plain"])
def border(request):
    """The compiled border, and the one in its place where no compiler was at hand."""
    if request.param == "_core":
        return pytest.importorskip("rmsprop._core", reason="the compiled module is not installed")
    return importlib.import_module("rmsprop._plain")


def handle(border, rule=BORDER_RULE):
    switches = dataclasses.asdict(rule)
    switches.pop("init")
    return border.Rule(**switches)


def run(border, call, **options):
    plan = border.Plan(handle(border), call.params, tuple(call.buffers), call.steps, **options)
    return border.step(plan, call.grads, StepArgs(call.lr, **call.options))


def run_single(border, param, grad, state, **options):
    plan = border.Plan(handle(border, Rule()), [param], (state,), np.zeros(1, np.int64))
    return border.step(plan, [grad], StepArgs(0.1, **options))


def test_the_good_call_steps(border):
    call = Call.good()
    before = call.memory()
    assert np.isnan(run(border, call))
    after = call.memory()
    assert all(a != b for a, b in zip(before[:3], after[:3]))  # params
    assert before[3:6] == after[3:6]  # grads
    assert all(a != b for a, b in zip(before[6:], after[6:]))  # buffers and counts


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_call_raises_before_anything_has_changed(border, case):
    change, error, message = REFUSED[case]
    call = Call.good()
    change(call)
    before = call.memory()
    with pytest.raises(RMSpropError) as caught:
        run(border, call)
    assert type(caught.value) is error
    assert str(caught.value).startswith(message)
    assert call.memory() == before
    # With the caller's names in place of the positions.
    with pytest.raises(error) as caught:
        run(border, call, names=NAMES)
    lists = r"\b(params|grads|mean_grad|grad_var|momentum_buf)\[(\d)\]"
    assert str(caught.value).startswith(re.sub(lists, lambda m: m[1] + NAMES[int(m[2])], message))


ABOUT_PARAMS = [
    case
    for case, (_, _, message) in REFUSED.items()
    if message.startswith(("params[", "grad_var[")) and "grads" not in message and case != "None for a param"
]


@pytest.mark.parametrize("case", ABOUT_PARAMS)
def test_a_check_at_construction_raises_the_same(border, case):
    change, error, message = REFUSED[case]
    call = Call.good()
    change(call)
    with pytest.raises(error) as caught:
        border.Plan(handle(border), call.params, tuple(call.buffers), call.steps).check()
    assert str(caught.value).startswith(message)


def test_a_check_accepts_what_a_step_accepts_and_writes_nothing(border):
    call = Call.good()
    before = call.memory()
    border.Plan(handle(border), call.params, tuple(call.buffers), call.steps).check()
    assert call.memory() == before


def test_without_a_gradient_parameter_and_count_stay(border):
    call = Call.good()
    call.grads[1] = None
    before = copy.deepcopy(call)
    run(border, call)
    for arrays, old in zip([call.params, *call.buffers], [before.params, *before.buffers]):
        assert np.array_equal(arrays[1], old[1])
        assert not np.array_equal(arrays[0], old[0])
    assert call.steps.tolist() == [1, 1, 3]


def test_a_parameter_is_checked_only_if_it_has_a_gradient(border):
    call = Call.good()
    call.grads[1], call.params[1] = None, "not an array"
    run(border, call)
    assert call.steps.tolist() == [1, 1, 3]


def test_two_parameters_may_share_one_gradient(border):
    call, copied = Call.good(), Call.good()
    call.grads[1], copied.grads[1] = call.grads[0], copied.grads[0].copy()
    for each in (call, copied):
        run(border, each)
    assert call.memory() == copied.memory()


def test_adjacent_arrays_do_not_overlap(border):
    memory = np.linspace(-1, 1, 36, dtype="float32")
    pieces = [memory[6 * i : 6 * i + 6].reshape(2, 3) for i in range(6)]
    call, copied = Call.good(), Call.good()
    call.params, call.grads = pieces[::2], pieces[1::2]
    copied.params, copied.grads = [p.copy() for p in call.params], [g.copy() for g in call.grads]
    for each in (call, copied):
        run(border, each)
    assert call.memory() == copied.memory()


def test_a_finite_gradient_passes_the_check_for_finite_ones_whatever_its_size(border):
    param, state = np.zeros(3), [np.zeros(3)]
    grad = np.array([1e200, -1e308, 1.0])
    run_single(border, param, grad, state, check_finite=True)
    assert np.isfinite(param).all()


def test_a_norm_that_overflows_cannot_be_clipped(border):
    param, state = np.ones(3), [np.ones(3)]
    grad = np.array([1e200, -1e308, 1.0])
    with pytest.raises(InputError) as caught:
        run_single(border, param, grad, state, max_norm=1.0)
    assert str(caught.value) == "grads: the sum of their squares overflows, so max_norm cannot scale them"
    assert (param == 1).all()
    assert (state[0] == 1).all()


def test_a_gradient_that_is_not_finite_reaches_the_parameter(border):
    for options in ({}, {"max_norm": 1.0}):
        param, state = np.ones(3), [np.ones(3)]
        grad = np.array([np.nan, 1.0, np.inf])
        run_single(border, param, grad, state, **options)
        assert np.isnan(param[[0, 2]]).all()


def test_a_number_of_threads_out_of_range_raises(border):
    before = border.threads()
    for threads in (-1, 1025):
        with pytest.raises(InputError) as caught:
            border.set_threads(threads)
        assert str(caught.value) == f"threads: {threads}, expected 0 (all) to 1024"
    assert border.threads() == before


def test_rounding_without_the_compiled_module_raises():
    from rmsprop import _plain, errors

    with pytest.raises(errors.InputError, match=r"^rounding='stochastic' needs the compiled module"):
        _plain.Rule(rounding="stochastic")


# ---- the compiled border alone ---------------------------------------------------------------------------------------


@pytest.fixture
def core():
    return pytest.importorskip("rmsprop._core", reason="the compiled module is not installed")


def test_an_unknown_instruction_set_raises(core):
    before = core.isa()
    with pytest.raises(InputError) as caught:
        core.set_isa("sse9")
    assert str(caught.value) == "isa: 'sse9', expected one of _core.isas()"
    assert core.isa() == before


def test_counts_may_be_a_list_of_numbers_which_are_checked_too(core):
    call = Call.good()
    call.steps = [np.zeros((), np.int64), np.zeros((), "float32"), np.zeros(1)]
    run(core, call)
    assert [float(np.sum(step)) for step in call.steps] == [1.0, 1.0, 1.0]
    frozen = np.zeros(())
    frozen.flags.writeable = False
    for bad in (frozen, np.zeros(2), np.zeros((), "int32")):
        call = Call.good()
        call.steps = [np.zeros(()), np.zeros(()), bad]
        before = call.memory()
        with pytest.raises(InputError, match=r"^steps\[2\]: expected one writable float32, float64 or int64 number$"):
            run(core, call)
        assert call.memory() == before


def test_more_than_eight_dimensions_raise(core):
    call = Call.good()
    call.grads[1] = np.zeros((1,) * 9, "float32")
    with pytest.raises(InputTypeError, match=r"^grads\[1\]: an array of more than 8 dimensions$"):
        run(core, call)


def test_the_norm_needs_dense_float_arrays(core):
    for bad, error in ((np.arange(3), InputTypeError), (np.zeros(6)[::2], InputError), ([1.0], InputTypeError)):
        with pytest.raises(error, match=r"^grads\[1\]: "):
            core.global_norm([np.zeros(3), bad])
