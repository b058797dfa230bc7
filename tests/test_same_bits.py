"""Promise: the kernel equals the formula bit for bit, for every instruction set, thread count, layout and grouping."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import platform
import sys

import numpy as np
import pytest

from cases import COVERING, DTYPES, LENGTHS, MANY, edges, every_rule, random_arrays, same_bits
from rmsprop import Rule, _plain, _step, formula

core = pytest.importorskip("rmsprop._core", reason="the compiled module is not installed")

ISAS = core.isas()
LARGE = 10**6 + 3


@pytest.fixture(autouse=True)
def _restore_isa():
    before = core.isa()
    yield
    core.set_isa(before)


def step_all(rule, params, grads, lists, steps, lr=0.01, lr_max=0.02, *, grad_scale=1.0, **options):
    plan = core.Plan(_step.handle(rule), params, lists, steps)
    core.step(plan, grads, _step.StepArgs(lr, lr_max, scale=grad_scale, **options))


def run_kernel(rule, param, grad, buffers, *, step=1, lr=0.01, lr_max=0.02, **options):
    """The kernel's step on copies of the arrays."""
    param, buffers = param.copy(order="K"), {name: array.copy(order="K") for name, array in buffers.items()}
    steps = np.array([step - 1])
    lists = tuple([array] for array in buffers.values())
    step_all(rule, [param], [grad], lists, steps, lr, lr_max, **options)
    assert steps == [step]
    return param, buffers


def run_formula(rule, param, grad, buffers, *, step=1, lr=0.01, lr_max=0.02, grad_scale=1.0):
    with np.errstate(all="ignore"):
        return formula.step(param, grad, buffers, rule, lr=lr, lr_max=lr_max, step=step, grad_scale=grad_scale)


def assert_same(actual, expected, note=""):
    param, buffers = actual
    expected_param, expected_buffers = expected
    assert same_bits(param, expected_param), f"param {note}"
    assert list(buffers) == list(expected_buffers), note
    for name, array in buffers.items():
        assert same_bits(array, expected_buffers[name]), f"{name} {note}"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", ["none", "l2", "decoupled", "decoupled_corrected", "in_buffer"])
def test_every_rule_equals_the_formula(mode, dtype):
    rules = list(every_rule(weight_decay_mode=mode))
    assert len(rules) > 500
    for rule, step in itertools.product(rules, (1, 3)):
        arrays = random_arrays(rule, 53, dtype)
        expected = run_formula(rule, *arrays, step=step)
        for isa in ISAS:
            core.set_isa(isa)
            assert_same(run_kernel(rule, *arrays, step=step), expected, f"{isa} step {step} {rule}")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", COVERING.values(), ids=COVERING)
def test_every_length_equals_the_formula(rule, dtype):
    whole = random_arrays(rule, max(LENGTHS), dtype)
    for length in LENGTHS:
        param, grad, buffers = whole[0][:length], whole[1][:length], {k: v[:length] for k, v in whole[2].items()}
        expected = run_formula(rule, param, grad, buffers)
        for isa in ISAS:
            core.set_isa(isa)
            threads = (1, 2, 3) if length > MANY else (0,)
            for count in threads:
                actual = run_kernel(rule, param, grad, buffers, threads=count)
                assert_same(actual, expected, f"{isa}, length {length}, {count} threads")


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", COVERING.values(), ids=COVERING)
def test_values_at_the_edges_of_the_format_equal_the_formula(rule, dtype, isa):
    core.set_isa(isa)
    # Every gradient with every parameter, statistic and mean.
    finite = edges(dtype)
    grads = np.concatenate([finite, np.array([np.inf, -np.inf, np.nan], dtype)])
    squares = np.array([0.0, 1e-30, 1.0, np.finfo(dtype).smallest_subnormal, 2.0**100, np.inf, np.nan], dtype)
    largest = 2.0**62 if dtype == "float32" else 2.0**510
    means = np.array([0.0, 1.0, -1e-30, np.nan, largest, -largest], dtype)
    params = finite[::3]
    grid = [axis.ravel() for axis in np.meshgrid(grads, params, squares, means, indexing="ij")]
    grad, param = grid[0].astype(dtype), grid[1].astype(dtype)
    values = {"mean_sq": grid[2], "grad_var": grid[2], "mean_grad": grid[3], "momentum_buf": grid[1][::-1].copy()}
    buffers = {name: values[name].copy() for name in rule.buffers}
    for lr, scale in ((0.01, 1.0), (0.0, 0.5), (1e30, 2.0**-100)):
        actual = run_kernel(rule, param, grad, buffers, lr=lr, lr_max=lr, grad_scale=scale)
        assert_same(actual, run_formula(rule, param, grad, buffers, lr=lr, lr_max=lr, grad_scale=scale), f"lr {lr}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", COVERING.values(), ids=COVERING)
def test_powers_of_two_over_the_whole_range_equal_the_formula(rule, dtype):
    info = np.finfo(dtype)
    powers = 2.0 ** np.arange(info.minexp - info.nmant, info.maxexp, dtype="float64")
    grad = np.concatenate([powers, -powers]).astype(dtype)
    _, _, buffers = random_arrays(rule, grad.size, dtype)
    for before in (buffers, {name: np.zeros_like(array) for name, array in buffers.items()}):
        for isa in ISAS:
            core.set_isa(isa)
            assert_same(
                run_kernel(rule, grad[::-1].copy(), grad, before), run_formula(rule, grad[::-1], grad, before), isa
            )


def copy_with_offset(array, offset):
    """A copy that begins `offset` elements into a larger array of zeros."""
    room = np.zeros(array.size + 64, array.dtype)
    room[offset : offset + array.size] = array
    return room[offset : offset + array.size]


@pytest.mark.parametrize("isa", ISAS)
def test_alignment_changes_no_bit_and_no_other_memory_is_written(isa):
    core.set_isa(isa)
    rule = COVERING["graves"]
    for dtype, length in itertools.product(DTYPES, (17, 64, 300)):
        arrays = random_arrays(rule, length, dtype)
        expected = run_formula(rule, *arrays)
        for offset in range(18):
            param, grad = copy_with_offset(arrays[0], offset), copy_with_offset(arrays[1], offset // 2)
            buffers = {name: copy_with_offset(array, 17 - offset) for name, array in arrays[2].items()}
            steps = np.zeros(1, np.int64)
            step_all(rule, [param], [grad], tuple([b] for b in buffers.values()), steps)
            assert_same((param, buffers), expected, f"offset {offset}")
            for array in (param, *buffers.values()):
                array[...] = 0
                assert not array.base.any(), "wrote outside the array"


@pytest.mark.parametrize("rule", COVERING.values(), ids=COVERING)
def test_memory_order_changes_no_bit(rule):
    arrays = random_arrays(rule, (5, 7, 3), "float32")
    expected = run_formula(rule, *arrays)
    for axes in itertools.permutations(range(3)):
        param, grad, *buffers = (
            a.transpose(axes).copy().transpose(np.argsort(axes)) for a in (*arrays[:2], *arrays[2].values())
        )
        assert_same(run_kernel(rule, param, grad, dict(zip(arrays[2], buffers))), expected, str(axes))
        assert _plain.global_norm([grad]) == core.global_norm([grad]) == core.global_norm([grad.transpose(axes)])


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", ["plain", "graves", "torch"])
def test_grouping_of_parameters_changes_no_bit(name, threads):
    rule = COVERING[name]
    param, grad, buffers = random_arrays(rule, 3 * MANY, "float32")
    expected = run_formula(rule, param, grad, buffers)
    rng = np.random.default_rng(1)
    for pieces in (2, 7, 300):
        cuts = np.sort(rng.choice(param.size, pieces - 1, replace=False))
        order = rng.permutation(pieces)

        def cut(array, cuts=cuts, order=order):
            parts = np.split(array, cuts)
            return [parts[k].copy() for k in order]

        params, grads, lists = cut(param), cut(grad), {name: cut(array) for name, array in buffers.items()}
        steps = np.zeros(pieces, np.int64)
        step_all(rule, params, grads, tuple(lists.values()), steps, threads=threads)

        def join(parts, order=order):
            return np.concatenate([parts[k] for k in np.argsort(order)])

        actual = join(params), {name: join(parts) for name, parts in lists.items()}
        assert_same(actual, expected, f"{pieces} pieces")


@pytest.mark.parametrize("dtype", DTYPES)
def test_100_steps_equal_the_formula(dtype):
    rng = np.random.default_rng(2)
    for name, rule in COVERING.items():
        starts = {n: rule.init_value if n in ("mean_sq", "grad_var") else 0 for n in rule.buffers}
        buffers = {n: np.full(31, value, dtype) for n, value in starts.items()}
        actual = expected = (random_arrays(rule, 31, dtype)[0], buffers)
        for step in range(1, 101):
            grad = rng.standard_normal(31).astype(dtype)
            actual = run_kernel(rule, actual[0], grad, actual[1], step=step)
            expected = run_formula(rule, expected[0], grad, expected[1], step=step)
        assert_same(actual, expected, name)


# ---- floating-point modes that another library may leave set ---------------------------------------------------------


@contextlib.contextmanager
def control_word(bits):
    """Set bits of the SSE control word in this thread, as a library built with -ffast-math does."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("writes the SSE control word through glibc's fenv_t, which is x86-64 Linux only")
    libm = ctypes.CDLL("libm.so.6")
    before, changed = (ctypes.c_uint32 * 8)(), (ctypes.c_uint32 * 8)()
    libm.fegetenv(before)
    libm.fegetenv(changed)
    changed[7] |= bits
    libm.fesetenv(changed)
    try:
        yield
    finally:
        libm.fesetenv(before)


MODES = {"flush to zero": 0x8000, "denormals are zero": 0x0040, "round up": 0x4000, "round to zero": 0x6000}


@pytest.mark.parametrize("bits", MODES.values(), ids=MODES)
def test_control_word_takes_effect(bits):
    small = np.full(4, np.finfo("float32").tiny)
    half, third = np.float32(0.5), np.full(4, 3, "float32")
    usual = (small * half).tobytes(), (1 / third).tobytes(), (-1 / third).tobytes(), (small * half * 2).tobytes()
    with control_word(bits):
        halves = small * half
        now = halves.tobytes(), (1 / third).tobytes(), (-1 / third).tobytes(), (halves * 2).tobytes()
    assert now != usual


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("bits", MODES.values(), ids=MODES)
def test_the_floating_point_mode_changes_no_bit(bits, isa):
    core.set_isa(isa)
    for name, rule in COVERING.items():
        param, grad, buffers = random_arrays(rule, MANY, "float32")
        param[::3] = grad[::2] = 3e-42  # subnormal
        for name_, array in buffers.items():
            array[::5] = 1e-41 if name_ != "mean_grad" else 2e-42
        expected = run_formula(rule, param, grad, buffers, step=2)
        for threads in (1, 2):
            param_, lists = param.copy(), [[array.copy()] for array in buffers.values()]
            steps = np.ones(1, np.int64)
            with control_word(bits):
                step_all(rule, [param_], [grad], tuple(lists), steps, threads=threads)
            assert_same(
                (param_, dict(zip(buffers, (array for (array,) in lists)))), expected, f"{name}, {threads} threads"
            )


def test_a_step_and_a_norm_restore_the_floating_point_mode():
    grads = [np.full(1000, 1e-160), np.linspace(0, 1, MANY) / 3]
    expected = [core.global_norm([grad]) for grad in grads]
    for bits in MODES.values():
        with control_word(bits):
            assert [core.global_norm([grad]) for grad in grads] == expected
    array = np.ones(100)
    with control_word(0x8040):
        step_all(Rule(), [array], [array.copy()], ([array.copy()],), np.zeros(1, np.int64))
        flushed = float((np.full(4, np.finfo("float64").tiny) * 0.5)[0])
    assert flushed == 0.0


# ---- the global norm ------------------------------------------------------------------------------------------------


def compute_norm_in_the_documented_order(grads):
    """Plain Python: 64 segments at most, of whole blocks; 16 interleaved sums in each; all in double precision."""
    total = 0.0
    for grad in grads:
        values = grad.astype(float).tolist()
        length = max(-(-len(values) // 64), 64 * 256)
        length += -length % 256
        for begin in range(0, len(values), length):
            segment, partial = values[begin : begin + length], 0.0
            for first in range(16):
                lane = 0.0
                for x in segment[first::16]:
                    lane += x * x
                partial += lane
            total += partial
    return total**0.5


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_norm_is_added_in_the_documented_order(dtype):
    rng = np.random.default_rng(3)
    whole = (rng.standard_normal(LARGE) * 10.0 ** rng.uniform(-8, 8, LARGE)).astype(dtype)
    for lengths in (*[(n,) for n in (*range(66), 97, 1000, 16384, 16385, LARGE)], (5, 0, 70000, 256, 33)):
        grads = [whole[-n:] if n else whole[:0] for n in lengths]
        expected = compute_norm_in_the_documented_order(grads)
        assert _plain.global_norm(grads) == expected, f"plain, {lengths}"
        for isa in ISAS:
            core.set_isa(isa)
            for threads in (1, 2, 3):
                assert core.global_norm(grads, threads) == expected, f"{isa}, {threads} threads, {lengths}"


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_clipped_step_equals_a_scaled_step(dtype):
    rule = COVERING["torch"]
    param, grad, buffers = random_arrays(rule, MANY, dtype)
    norm = core.global_norm([grad])
    assert_same(run_kernel(rule, param, grad, buffers, max_norm=1.01 * norm), run_formula(rule, param, grad, buffers))
    expected = run_formula(rule, param, grad, buffers, grad_scale=0.25 / norm)
    for isa in ISAS:
        core.set_isa(isa)
        for threads in (1, 2, 3):
            actual = run_kernel(rule, param, grad, buffers, max_norm=0.25, threads=threads)
            assert_same(actual, expected, f"{isa}, {threads} threads")
