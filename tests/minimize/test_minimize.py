"""Promise: minimize() does RMSprop's steps on any array, with any kind of gradient, and counts its calls."""

import functools
import inspect
import math

import numpy as np
import pytest
from scipy.optimize import OptimizeResult, rosen, rosen_der

from rmsprop import RMSprop, Rule, baselines, dialects, expression
from rmsprop.minimize import minimize

START = [3.0, -2.0]


def bowl(x):
    return (x[0] - 1) ** 2 + 10 * (x[1] + 0.5) ** 2


def slope(x):
    return np.array([2 * (x[0] - 1), 20 * (x[1] + 0.5)], dtype=x.dtype)


def take_steps(optimizer, x, grad, count):
    for _ in range(count):
        optimizer.step(grad(x))
    return x


@pytest.mark.parametrize(
    "rule",
    [Rule(), Rule(eps_mode="outside", rho=0.99), Rule(centered=True, buffer="unit", momentum=0.5), Rule(init="ones")],
    ids=repr,
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_minimize_is_a_loop_of_steps(rule, dtype):
    start = np.array(START, dtype=dtype)
    run = minimize(bowl, start, jac=slope, lr=0.02, dialect=rule, steps=50)
    x = start.copy()
    take_steps(RMSprop(x, lr=0.02, dialect=rule), x, slope, 50)
    assert np.array_equal(run.x, x)
    assert run.x.dtype == dtype
    assert run.fun == float(bowl(x))
    assert np.array_equal(run.jac, slope(x))


def test_defaults_are_rho_09_and_eps_1e8_inside_the_root():
    run = minimize(bowl, START, jac=slope, steps=1)
    grad = slope(np.array(START))
    np.testing.assert_allclose(run.x, START - 0.01 * grad / np.sqrt(0.1 * grad**2 + 1e-8), rtol=1e-14)


def test_the_result_is_a_scipy_result():
    run = minimize(bowl, [0.0, 0.0], jac=slope, steps=10)
    assert isinstance(run, OptimizeResult)
    assert (run.nit, run.nfev, run.njev, run.success, run.status) == (10, 11, 11, True, 0)
    assert run.message == "All 10 steps were done; no tolerance was set."
    assert "trace" not in run


@pytest.mark.parametrize("name", ["rmsprop", *baselines.names(), "a function"])
def test_any_baseline_may_be_used(name):
    if name == "a function":
        make = given = functools.partial(baselines.Momentum, momentum=0.5)
    else:
        make, given = RMSprop if name == "rmsprop" else baselines.get(name), name
    run = minimize(rosen, [-1.0, 1.0], jac=rosen_der, lr=1e-4, steps=20, optimizer=given)
    x = np.array([-1.0, 1.0])
    assert np.array_equal(run.x, take_steps(make(x, lr=1e-4), x, rosen_der, 20))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_decaying_lr_converges_to_the_minimum_or_maximum(sign):
    run = minimize(
        lambda x: sign * bowl(x),
        [-3.0, 2.0],
        jac=lambda x: sign * slope(x),
        dialect=Rule(maximize=sign < 0),
        lr=lambda step: 0.2 * 0.98**step,
    )
    np.testing.assert_allclose(run.x, [1.0, -0.5], atol=1e-6)


@pytest.mark.parametrize("shape", [(), (1,), (2, 1), (3,), (2, 2, 2)])
def test_x_may_have_any_shape(shape):
    shapes = set()

    def fun(x):
        shapes.add(x.shape)
        return np.sum((x - 1) ** 2)

    for jac in (lambda x: 2 * (x - 1), "2-point", "cs"):
        run = minimize(fun, np.zeros(shape), jac=jac, lr=0.05, steps=60)
        assert run.x.shape == run.jac.shape == shape
        np.testing.assert_allclose(run.x, 1.0, atol=0.05)
    assert shapes == {shape}


CUBIC = {"fun": lambda x: x - x**3, "jac": lambda x: 1 - 3 * x**2}


@pytest.mark.parametrize("x0", [-1.0, [-1.0], [[-1.0]], np.float32(-1.0)])
@pytest.mark.parametrize("jac", [CUBIC["jac"], None, "3-point", "cs", True])
def test_a_function_of_a_number_works_as_in_scipy(x0, jac):
    fun = (lambda x: (CUBIC["fun"](x), CUBIC["jac"](x))) if jac is True else CUBIC["fun"]
    run = minimize(fun, x0, jac=jac, steps=200)
    assert run.x.shape == run.jac.shape == run.x_best.shape == np.shape(x0)
    np.testing.assert_allclose(run.x, -1 / math.sqrt(3), atol=1e-2)


@pytest.mark.parametrize(("x0", "kind"), [(-1.0, np.float64), (-1, np.float64), (np.float32(-1.0), np.float32)])
def test_fun_gets_a_number_if_the_start_is_a_number(x0, kind):
    @functools.cache
    def fun(x):
        assert type(x) is kind
        return math.sin(x)

    for jac in (math.cos, "2-point"):
        np.testing.assert_allclose(minimize(fun, x0, jac=jac, steps=200).x, -math.pi / 2, atol=1e-2)


def test_a_typed_function_has_its_exact_gradient():
    f = expression.parse("0.1x^2 + 2y^2")
    expected = minimize(f, [-5.0, -2.0], jac=f.grad, lr=0.4, steps=20)
    for fun, options in (("0.1x^2 + 2y^2", {}), (f, {}), (f, {"jac": True})):
        run = minimize(fun, [-5.0, -2.0], lr=0.4, steps=20, **options)
        assert np.array_equal(run.x, expected.x)
        assert np.array_equal(run.jac, f.grad(run.x))
        assert run.nfev == run.njev == 21


def test_a_typed_function_takes_a_number_many_starts_and_another_gradient():
    for x0 in (-1.0, [-1.0]):
        run = minimize("x - x^3", x0, steps=100)
        assert run.x.shape == np.shape(x0)
        assert np.array_equal(run.x, minimize(**CUBIC, x0=x0, steps=100).x)
    assert minimize("x^2 + y^2", np.ones((3, 2)), steps=5).xs.shape == (3, 2)
    assert minimize("x^2", [1.0], jac="3-point", steps=5).nfev == 6 * 3
    assert minimize("x^2", [1.0], jac=lambda x: -2 * x, steps=5).x > 1


@pytest.mark.parametrize(
    "options",
    [
        {"rho": 0.5},
        {"eps": 1e-3},
        {"momentum": 0.5, "dialect": "torch"},
        {"centered": True},
        {"weight_decay": 0.1, "dialect": "torch"},
        {"dialect": "tensorflow1"},
        {"dialect": "torch", "rho": 0.5, "eps": 0.1},
    ],
)
def test_options_and_dialect_make_the_rule(options):
    run = minimize(bowl, START, jac=slope, lr=0.02, steps=20, trace=True, **options)
    changes = {name: value for name, value in options.items() if name != "dialect"}
    name = options.get("dialect")
    rule = dialects.dialect(name, **changes) if name else Rule(**changes)
    assert run.trace.rule == rule
    assert np.array_equal(run.x, minimize(bowl, START, jac=slope, lr=0.02, steps=20, dialect=rule).x)


@pytest.mark.parametrize(
    ("options", "lr"),
    [
        ({}, 0.01),
        ({"dialect": Rule(rho=0.5)}, 0.01),
        ({"optimizer": "adam"}, 0.01),
        ({"dialect": "keras"}, 0.001),
        ({"dialect": "keras", "lr": 0.5}, 0.5),
    ],
)
def test_the_default_lr_is_the_dialects(options, lr):
    assert minimize(bowl, START, jac=slope, steps=1, trace=True, **options).trace.lr[0] == lr


@pytest.mark.parametrize("sign", [1, -1])
def test_the_result_has_the_best_point(sign):
    options = {"lr": 0.3, "dialect": Rule(maximize=sign < 0)}
    run = minimize(lambda x: sign * bowl(x), START, jac=lambda x: sign * slope(x), steps=57, trace=True, **options)
    best = int(np.argmin(sign * run.trace.f))
    assert best < 57
    assert np.array_equal(run.x_best, run.trace.x[best])
    assert run.fun_best == run.trace.f[best] != run.fun
    short = minimize(bowl, START, jac=slope, steps=3)
    assert np.array_equal(short.x, short.x_best)
    assert short.fun == short.fun_best


@pytest.mark.parametrize("given", [np.float32, np.float64, np.int64, np.uint8, bool])
def test_floats_keep_their_dtype_and_integers_become_float64(given):
    expected, dtypes = np.float32 if given is np.float32 else np.float64, set()

    def fun(x):
        dtypes.add(x.dtype)
        return float(np.sum((x - 3) ** 2))

    for jac in (lambda x: 2 * (x - 3), "2-point", "3-point"):
        run = minimize(fun, np.ones(2, dtype=given), jac=jac, steps=3)
        assert run.x.dtype == run.jac.dtype == expected
    assert dtypes == {np.dtype(expected)}


def test_x0_is_only_read():
    start = np.array(START)
    start.flags.writeable = False
    run = minimize(bowl, start, jac=slope, steps=3)
    assert start.tolist() == START
    assert not np.shares_memory(run.x, start)


def test_fun_and_jac_may_keep_and_overwrite_x():
    points = []

    def fun(x):
        points.append(x)
        value = bowl(x)
        x[:] = np.nan
        return value

    def jac(x):
        grad = slope(x)
        x[:] = np.nan
        return grad

    run = minimize(fun, START, jac=jac, steps=20)
    assert np.array_equal(run.x, minimize(bowl, START, jac=slope, steps=20).x)
    assert len({id(x) for x in points}) == 21


def test_all_gradients_may_be_written_to_one_array():
    out = np.empty(2)

    def fun(x):
        out[:] = slope(x)
        return bowl(x), out

    run = minimize(fun, START, jac=True, steps=20)
    out[:] = np.nan
    assert np.array_equal(run.jac, slope(run.x))


@pytest.mark.parametrize("steps", [0, 1, 7])
@pytest.mark.parametrize(
    ("jac", "per_point"), [(slope, 1), (True, 1), (None, 3), (False, 3), ("2-point", 3), ("3-point", 5), ("cs", 3)]
)
def test_calls_are_counted(jac, per_point, steps):
    calls = []

    def fun(x):
        calls.append(x)
        return (bowl(x), slope(x)) if jac is True else bowl(x)

    run = minimize(fun, START, jac=jac, steps=steps)
    assert (run.nfev, run.njev) == (len(calls), steps + 1)
    assert run.nfev == (steps + 1) * per_point


@pytest.mark.parametrize(
    ("jac", "dtype", "rtol"),
    [("2-point", float, 1e-6), ("3-point", float, 1e-8), ("cs", float, 1e-14), ("3-point", np.float32, 2e-3)],
)
def test_differences_are_as_exact_as_their_scheme(jac, dtype, rtol):
    at = np.array([-1.2, 1.7, 0.4], dtype)
    run = minimize(lambda x: rosen(x).astype(dtype) if jac != "cs" else rosen(x), at, jac=jac, steps=0)
    np.testing.assert_allclose(run.jac, rosen_der(at.astype(float)), rtol=rtol)


@pytest.mark.parametrize("args", [(0.5, 2.0), 0.5])
def test_args_follow_x(args):
    run = minimize(lambda x, a, b=1.0: float(b * (x[0] - a) ** 2), [0.0], args=args)
    np.testing.assert_allclose(run.x, 0.5, atol=0.01)


@pytest.mark.parametrize("value", [1, 1.5, np.float32(1.5), np.array(1.5), np.array([1.5]), np.array([[1.5]]), True])
def test_fun_may_return_any_single_number(value):
    run = minimize(lambda x: value, [0.0, 0.0], jac=lambda x: [0, 0], steps=1)
    assert type(run.fun) is float
    assert run.fun == float(np.ravel(value)[0])


@pytest.mark.parametrize(
    "convert", [np.ndarray.tolist, np.asfortranarray, lambda g: np.repeat(g, 2, axis=1)[:, ::2]], ids=range(3)
)
def test_a_gradient_may_be_a_list_or_have_any_memory_order(convert):
    start = np.arange(6.0).reshape(2, 3)
    run = minimize(lambda x: np.sum(x**2), start, jac=lambda x: convert(2 * x), steps=5)
    assert np.array_equal(run.x, minimize(lambda x: np.sum(x**2), start, jac=lambda x: 2 * x, steps=5).x)


def stop(x):
    raise StopIteration


ARGUMENTS = {
    **{"jac": "3-point", "args": (2.0,), "lr": 0.1, "rho": 0.5, "eps": 0.1, "momentum": 0.5, "centered": True},
    **{"weight_decay": 0.1, "dialect": "tensorflow1", "steps": 5, "batches": [2.0], "callback": stop, "gtol": 1e9},
    **{"xtol": 1e9, "ftol": 1e9, "patience": 3, "trace": True, "optimizer": "adam", "vectorized": False},
}


@pytest.mark.parametrize("name", list(inspect.signature(minimize).parameters)[2:])
def test_every_argument_changes_the_run(name):
    def run(**options):
        options = {"steps": 40, **({"ftol": 1e9} if name == "patience" else {}), **options}
        found = minimize(lambda x, a=1.0: a * np.sum(x**4, axis=-1), [[3.0, -2.0]], **options)
        return found.x.tolist(), found.nit, found.nfev, found.fun, found.status, sorted(found)

    assert run(**{name: ARGUMENTS[name]}) != run()
