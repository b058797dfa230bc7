"""Promise: minimize() does RMSprop's steps on any array, however the gradient is given, and counts its calls."""

import functools
import inspect
import math

import numpy as np
import pytest
from scipy.optimize import OptimizeResult, rosen, rosen_der

from rmsprop import RMSprop, Rule, baselines, dialects, expression
from rmsprop.minimize import minimize


def bowl(x):
    return (x[0] - 1) ** 2 + 10 * (x[1] + 0.5) ** 2


def slope(x):
    return np.array([2 * (x[0] - 1), 20 * (x[1] + 0.5)], dtype=x.dtype)


class Counted:
    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, *args):
        self.calls += 1
        return self.function(*args)


RULES = [
    Rule(),
    Rule(eps_mode="outside", rho=0.99),
    Rule(centered=True, buffer="unit", momentum=0.5),
    Rule(init="ones"),
]


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_minimize_is_a_loop_of_steps(rule, dtype):
    start = np.array([-1.0, 2.0], dtype=dtype)
    run = minimize(bowl, start, jac=slope, lr=0.02, dialect=rule, steps=50)
    x = start.copy()
    optimizer = RMSprop(x, lr=0.02, dialect=rule)
    for _ in range(50):
        optimizer.step(slope(x))
    assert np.array_equal(run.x, x)
    assert run.x.dtype == dtype
    assert run.fun == float(bowl(x))
    assert np.array_equal(run.jac, slope(x))


def test_the_defaults_are_rho_09_and_eps_1e8_inside_the_root():
    run = minimize(bowl, [3.0, -2.0], jac=slope, steps=1)
    grad = slope(np.array([3.0, -2.0]))
    np.testing.assert_allclose(run.x, [3.0, -2.0] - 0.01 * grad / np.sqrt(0.1 * grad**2 + 1e-8), rtol=1e-14)


def test_minimize_gives_what_scipy_gives():
    run = minimize(bowl, [0.0, 0.0], jac=slope, steps=10)
    assert isinstance(run, OptimizeResult)
    assert {"x", "fun", "jac", "nit", "nfev", "njev", "success", "status", "message"} <= set(run)
    assert (run.nit, run.nfev, run.njev, run.success, run.status) == (10, 11, 11, True, 0)
    assert run.message == "All 10 steps were done; no tolerance was set."
    assert "trace" not in run


@pytest.mark.parametrize("name", ["rmsprop", *baselines.names()])
def test_any_baseline_can_be_named(name):
    run = minimize(rosen, [-1.0, 1.0], jac=rosen_der, lr=1e-4, steps=20, optimizer=name)
    x = np.array([-1.0, 1.0])
    engine = (RMSprop if name == "rmsprop" else baselines.get(name))(x, lr=1e-4)
    for _ in range(20):
        engine.step(rosen_der(x))
    assert np.array_equal(run.x, x)


def test_an_optimizer_may_be_a_function_that_builds_one():
    run = minimize(
        bowl, [0.0, 0.0], jac=slope, optimizer=lambda x, lr: baselines.Momentum(x, lr=lr, momentum=0.5), steps=9
    )
    x = np.zeros(2)
    momentum = baselines.Momentum(x, lr=0.01, momentum=0.5)
    for _ in range(9):
        momentum.step(slope(x))
    assert np.array_equal(run.x, x)


def test_a_falling_lr_comes_to_rest_at_the_minimum():
    run = minimize(bowl, [-3.0, 2.0], jac=slope, lr=lambda step: 0.2 * 0.98**step, steps=1000)
    np.testing.assert_allclose(run.x, [1.0, -0.5], atol=1e-6)


@pytest.mark.parametrize("shape", [(), (1,), (2, 1), (3,), (2, 2, 2)])
def test_x_may_have_any_shape(shape):
    seen = set()

    def fun(x):
        seen.add(x.shape)
        return np.sum((x - 1) ** 2)

    for jac in (lambda x: 2 * (x - 1), "2-point", "cs"):
        run = minimize(fun, np.zeros(shape), jac=jac, lr=0.05, steps=60)
        assert run.x.shape == run.jac.shape == shape
        np.testing.assert_allclose(run.x, 1.0, atol=0.05)
    assert seen == {shape}


CUBIC = {"fun": lambda x: x - x**3, "jac": lambda x: 1 - 3 * x**2}


@pytest.mark.parametrize("x0", [-1.0, [-1.0], [[-1.0]], np.float32(-1.0)])
@pytest.mark.parametrize("jac", [CUBIC["jac"], None, "3-point", "cs"])
def test_a_function_of_a_plain_number_works_as_it_does_for_scipy(x0, jac):
    run = minimize(CUBIC["fun"], x0, jac=jac, steps=200)
    assert run.x.shape == run.jac.shape == run.x_best.shape == np.shape(x0)
    np.testing.assert_allclose(run.x, -1 / math.sqrt(3), atol=1e-2)
    both = minimize(lambda x: (CUBIC["fun"](x), CUBIC["jac"](x)), x0, jac=True, steps=200)
    assert np.array_equal(both.x, minimize(**CUBIC, x0=x0, steps=200).x)


@pytest.mark.parametrize(("x0", "kind"), [(-1.0, np.float64), (-1, np.float64), (np.float32(-1.0), np.float32)])
def test_a_start_that_is_a_number_gives_fun_numbers(x0, kind):
    @functools.cache
    def fun(x):
        assert type(x) is kind
        return math.sin(x)

    for jac in (math.cos, "2-point"):
        run = minimize(fun, x0, jac=jac, steps=200)
        np.testing.assert_allclose(run.x, -math.pi / 2, atol=1e-2)


def test_a_typed_function_has_its_exact_gradient():
    f = expression.parse("0.1x^2 + 2y^2")
    run = minimize("0.1x^2 + 2y^2", [-5.0, -2.0], lr=0.4, steps=20)
    expected = minimize(f, [-5.0, -2.0], jac=f.grad, lr=0.4, steps=20)
    assert np.array_equal(run.x, expected.x)
    assert np.array_equal(run.jac, f.grad(run.x))
    assert run.nfev == run.njev == 21
    assert np.array_equal(minimize(f, [-5.0, -2.0], lr=0.4, steps=20).x, expected.x)
    assert np.array_equal(minimize(f, [-5.0, -2.0], jac=True, lr=0.4, steps=20).x, expected.x)


@pytest.mark.parametrize("x0", [-1.0, [-1.0]])
def test_a_typed_function_of_x_takes_a_number_too(x0):
    run = minimize("x - x^3", x0, steps=100)
    assert run.x.shape == np.shape(x0)
    assert np.array_equal(run.x, minimize(**CUBIC, x0=x0, steps=100).x)


def test_a_typed_function_runs_from_many_starts_and_takes_another_gradient():
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
def test_plain_options_and_the_dialect_make_the_rule(options):
    run = minimize(bowl, [3.0, -2.0], jac=slope, lr=0.02, steps=20, trace=True, **options)
    changes = {name: value for name, value in options.items() if name != "dialect"}
    name = options.get("dialect")
    rule = dialects.dialect(name, **changes) if name else Rule(**changes)
    assert run.trace.rule == rule
    assert np.array_equal(run.x, minimize(bowl, [3.0, -2.0], jac=slope, lr=0.02, steps=20, dialect=rule).x)


def test_the_lr_is_the_dialects_own_where_it_has_one():
    def rate(**options):
        return minimize(bowl, [3.0, -2.0], jac=slope, steps=1, trace=True, **options).trace.lr[0]

    assert rate() == rate(dialect=Rule(rho=0.5)) == rate(optimizer="adam") == 0.01
    assert rate(dialect="keras") == dialects.get("keras").lr == 0.001
    assert rate(dialect="keras", lr=0.5) == 0.5


@pytest.mark.parametrize("sign", [1, -1])
def test_the_best_point_seen_is_in_the_result(sign):
    options = {"lr": 0.3, "dialect": Rule(maximize=sign < 0)}
    run = minimize(
        lambda x: sign * bowl(x), [3.0, -2.0], jac=lambda x: sign * slope(x), steps=57, trace=True, **options
    )
    best = int(np.argmin(sign * run.trace.f))
    assert best < 57
    assert np.array_equal(run.x_best, run.trace.x[best])
    assert run.fun_best == run.trace.f[best] != run.fun
    short = minimize(bowl, [3.0, -2.0], jac=slope, steps=3)
    assert np.array_equal(short.x, short.x_best)
    assert short.fun == short.fun_best


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (np.float32, np.float32),
        (np.float64, np.float64),
        (np.int64, np.float64),
        (np.uint8, np.float64),
        (bool, np.float64),
    ],
)
def test_floats_keep_their_dtype_and_integers_become_float64(given, kept):
    seen = set()

    def fun(x):
        seen.add(x.dtype)
        return float(np.sum((x - 3) ** 2))

    for jac in (lambda x: 2 * (x - 3), "2-point", "3-point"):
        run = minimize(fun, np.ones(2, dtype=given), jac=jac, steps=3)
        assert run.x.dtype == run.jac.dtype == kept
    assert seen == {np.dtype(kept)}


def test_x0_is_only_read():
    start = np.array([1.0, 2.0])
    start.flags.writeable = False
    run = minimize(bowl, start, jac=slope, steps=3)
    assert start.tolist() == [1.0, 2.0]
    assert not np.shares_memory(run.x, start)


def test_keeping_or_overwriting_x_does_no_harm():
    kept = []

    def fun(x):
        kept.append(x)
        value = bowl(x)
        x[:] = np.nan
        return value

    def jac(x):
        grad = slope(x)
        x[:] = np.nan
        return grad

    run = minimize(fun, [3.0, 2.0], jac=jac, steps=20)
    assert np.array_equal(run.x, minimize(bowl, [3.0, 2.0], jac=slope, steps=20).x)
    assert len({id(x) for x in kept}) == 21


def test_a_gradient_written_into_one_array_again_and_again_is_fine():
    out = np.empty(2)

    def both(x):
        out[:] = slope(x)
        return bowl(x), out

    run = minimize(both, [3.0, 2.0], jac=True, steps=20)
    out[:] = np.nan
    assert np.array_equal(run.jac, slope(run.x))


@pytest.mark.parametrize("steps", [0, 1, 7])
def test_calls_are_counted_for_a_gradient_function(steps):
    fun, jac = Counted(bowl), Counted(slope)
    run = minimize(fun, [0.0, 0.0], jac=jac, steps=steps)
    assert (run.nfev, run.njev) == (fun.calls, jac.calls) == (steps + 1, steps + 1)


def test_calls_are_counted_for_a_function_that_returns_both():
    fun = Counted(lambda x: (bowl(x), slope(x)))
    run = minimize(fun, [0.0, 0.0], jac=True, steps=7)
    assert run.nfev == run.njev == fun.calls == 8
    assert np.array_equal(run.x, minimize(bowl, [0.0, 0.0], jac=slope, steps=7).x)


@pytest.mark.parametrize(("jac", "per_point"), [(None, 3), (False, 3), ("2-point", 3), ("3-point", 5), ("cs", 3)])
def test_calls_are_counted_for_differences(jac, per_point):
    fun = Counted(bowl)
    run = minimize(fun, [0.0, 0.0], jac=jac, steps=7)
    assert run.nfev == fun.calls == 8 * per_point
    assert run.njev == 8


@pytest.mark.parametrize(("jac", "rtol"), [("2-point", 1e-6), ("3-point", 1e-8), ("cs", 1e-14)])
def test_differences_are_as_good_as_their_name(jac, rtol):
    at = np.array([-1.2, 1.7, 0.4])
    np.testing.assert_allclose(minimize(rosen, at, jac=jac, steps=0).jac, rosen_der(at), rtol=rtol)


def test_float32_differences_use_steps_of_float32():
    at = np.array([-1.2, 1.7, 0.4], dtype=np.float32)
    run = minimize(lambda x: np.float32(rosen(x)), at, jac="3-point", steps=0)
    np.testing.assert_allclose(run.jac, rosen_der(at.astype(float)), rtol=2e-3)


def test_args_follow_x():
    run = minimize(
        lambda x, a, b: float(a * (x[0] - b) ** 2), [0.0], jac=lambda x, a, b: 2 * a * (x - b), args=(2.0, 0.5)
    )
    np.testing.assert_allclose(run.x, 0.5, atol=0.01)
    one = minimize(lambda x, a: float((x[0] - a) ** 2), [0.0], args=0.5)
    np.testing.assert_allclose(one.x, 0.5, atol=0.01)


def test_a_maximizing_rule_climbs():
    run = minimize(
        lambda x: -bowl(x), [0.0, 0.0], jac=lambda x: -slope(x), dialect=Rule(maximize=True), lr=0.02, steps=400
    )
    np.testing.assert_allclose(run.x, [1.0, -0.5], atol=0.02)


@pytest.mark.parametrize("value", [1, 1.5, np.float32(1.5), np.array(1.5), np.array([1.5]), np.array([[1.5]]), True])
def test_whatever_is_one_number_is_an_objective(value):
    run = minimize(lambda x: value, [0.0, 0.0], jac=lambda x: [0, 0], steps=1)
    assert type(run.fun) is float
    assert run.fun == float(np.ravel(value)[0])


def test_a_gradient_may_be_a_list_or_of_another_memory_order_or_dtype():
    expected = minimize(bowl, [3.0, 2.0], jac=slope, steps=5).x
    for jac in (lambda x: slope(x).tolist(), lambda x: np.repeat(slope(x), 2)[::2]):
        assert np.array_equal(minimize(bowl, [3.0, 2.0], jac=jac, steps=5).x, expected)
    start = np.arange(6.0).reshape(2, 3)
    run = minimize(lambda x: np.sum(x**2), start, jac=lambda x: np.asfortranarray(2 * x), steps=5)
    assert np.array_equal(run.x, minimize(lambda x: np.sum(x**2), start, jac=lambda x: 2 * x, steps=5).x)


def stop(x):
    raise StopIteration


EVERY_ARGUMENT = {
    **{"jac": "3-point", "args": (2.0,), "lr": 0.1, "rho": 0.5, "eps": 0.1, "momentum": 0.5, "centered": True},
    **{"weight_decay": 0.1, "dialect": "tensorflow1", "steps": 5, "batches": [2.0], "callback": stop, "gtol": 1e9},
    **{"xtol": 1e9, "ftol": 1e9, "patience": 3, "trace": True, "optimizer": "adam", "vectorized": False},
}


@pytest.mark.parametrize("name", list(inspect.signature(minimize).parameters)[2:])
def test_every_argument_changes_the_run(name):
    def run(**options):
        found = minimize(
            lambda x, a=1.0: a * np.sum(x**4, axis=-1), [[3.0, -2.0]], steps=options.pop("steps", 40), **options
        )
        return found.x.tolist(), found.nit, found.nfev, found.fun, found.status, sorted(found)

    others = {"ftol": 1e9} if name == "patience" else {}
    assert run(**others, **{name: EVERY_ARGUMENT[name]}) != run(**others)
