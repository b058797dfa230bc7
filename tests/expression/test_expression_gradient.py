"""Dual numbers give the exact gradient: held to complex steps, differences, and closed forms at the awkward points."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rmsprop import expression

TOLERANCE = 1e-8

# Text, and the same function in NumPy's complex arithmetic: an independent oracle for value and gradient.
ANALYTIC = [
    ("x^2 + y^2", lambda x, y: x**2 + y**2),
    ("0.1x^2 + 2y^2", lambda x, y: 0.1 * x**2 + 2 * y**2),
    ("(1-x)^2 + 100(y-x^2)^2", lambda x, y: (1 - x) ** 2 + 100 * (y - x**2) ** 2),
    ("(x^2+y-11)^2 + (x+y^2-7)^2", lambda x, y: (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2),
    ("x^3 - 3xy^2", lambda x, y: x**3 - 3 * x * y**2),
    ("-x^5*y^4/(3 + y^2)", lambda x, y: -(x**5) * y**4 / (3 + y**2)),
    ("x^-3 + y^-1", lambda x, y: x**-3 + 1 / y),
    ("x/y/(x + 2y)*y", lambda x, y: x / y / (x + 2 * y) * y),
    ("1/(1 + x*x)/y", lambda x, y: 1 / (1 + x * x) / y),
    ("x^y", lambda x, y: x**y),
    ("(x + y)^(x - y)", lambda x, y: (x + y) ** (x - y)),
    ("2^x*e^y", lambda x, y: 2**x * np.exp(y)),
    ("x^2.5*y^(1/3)", lambda x, y: x**2.5 * y ** (1 / 3)),
    ("x^20 - y^-18", lambda x, y: x**20 - y**-18),
    ("x^x^y", lambda x, y: x ** (x**y)),
    ("sin(x*y) + cos(x - y)", lambda x, y: np.sin(x * y) + np.cos(x - y)),
    ("tan(x/2)*tanh(y)", lambda x, y: np.tan(x / 2) * np.tanh(y)),
    ("asin(x/3)*acos(y/3)", lambda x, y: np.arcsin(x / 3) * np.arccos(y / 3)),
    ("atan(x*y)", lambda x, y: np.arctan(x * y)),
    ("sinh(x)/cosh(y)", lambda x, y: np.sinh(x) / np.cosh(y)),
    ("exp(-x^2 - y)", lambda x, y: np.exp(-(x**2) - y)),
    ("log(x)*log2(y)*log10(x + y)", lambda x, y: np.log(x) * np.log(y) / np.log(2) * np.log(x + y) / np.log(10)),
    ("sqrt(x^2 + y^2)", lambda x, y: np.sqrt(x**2 + y**2)),
    ("cbrt(x*y)", lambda x, y: (x * y) ** (1 / 3)),
    ("sigmoid(x - y)", lambda x, y: 1 / (1 + np.exp(y - x))),
    ("softplus(3x - 4y)", lambda x, y: np.log(1 + np.exp(3 * x - 4 * y))),
    ("gauss(x)*gauss(y/2)", lambda x, y: np.exp(-(x**2)) * np.exp(-(y**2) / 4)),
    ("20 + x^2 - 10cos(2pi*x)", lambda x, y: 20 + x**2 - 10 * np.cos(2 * np.pi * x) + 0 * y),
    ("--x*-y", lambda x, y: -x * y),
]
POINTS = np.random.default_rng(7).uniform(0.3, 2.0, (40, 2))


def _complex_step(function, points):
    """The gradient to full precision: Im f(x + ih) / h has no subtraction in it."""
    h = 1e-30
    x, y = points[..., 0].astype(complex), points[..., 1].astype(complex)
    return np.stack([function(x + 1j * h, y).imag / h, function(x, y + 1j * h).imag / h], axis=-1)


@pytest.mark.parametrize(("text", "function"), ANALYTIC, ids=[text for text, _ in ANALYTIC])
def test_value_and_gradient_are_those_of_complex_arithmetic(text, function):
    values, grads = expression.parse(text, variables=("x", "y")).value_and_grad(POINTS)
    expected = function(POINTS[:, 0].astype(complex), POINTS[:, 1].astype(complex)).real
    np.testing.assert_allclose(values, expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(grads, _complex_step(function, POINTS), rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("name", expression.FUNCTIONS)
@pytest.mark.parametrize("at", [-0.83, -0.31, 0.27, 0.74])
def test_the_slope_of_every_function_is_that_of_central_differences(name, at):
    f = expression.parse(f"{name}(x)")
    value, (slope,) = f.value_and_grad([at])
    if np.isnan(value):
        assert np.isnan(slope)
        return
    # Richardson's extrapolation of two central differences: an error of order h^4.
    near, far = ((f([at + h]) - f([at - h])) / (2 * h) for h in (1e-3, 2e-3))
    assert slope == pytest.approx((4 * near - far) / 3, rel=TOLERANCE, abs=TOLERANCE)


def _trees():
    """Pairs of a text and the function it means, made together; every result is tested to stay of moderate size."""
    leaf = st.one_of(
        st.just(("x", lambda x, y: x)),
        st.just(("y", lambda x, y: y)),
        st.floats(-3, 3).map(lambda c: (f"({c!r})", lambda x, y: c + 0 * x)),
    )
    binary = {
        "+": lambda a, b: a + b,
        "-": lambda a, b: a - b,
        "*": lambda a, b: a * b,
        # Near a pole, or over what rounding left of a zero, the condition of the function is what would be measured.
        "/": lambda a, b: a / b if abs(b) > 1e-3 else np.nan * a,
    }
    unary = {"sin({})": np.sin, "tanh({})": np.tanh, "atan({})": np.arctan, "-({})": lambda a: -a}
    unary |= {"({})^2": lambda a: a * a, "({})^3": lambda a: a * a * a, "exp(-({})^2)": lambda a: np.exp(-a * a)}

    def larger(inner):
        two = st.tuples(inner, st.sampled_from(sorted(binary)), inner).map(
            lambda t: (f"({t[0][0]}{t[1]}{t[2][0]})", lambda x, y: binary[t[1]](t[0][1](x, y), t[2][1](x, y)))
        )
        one = st.tuples(st.sampled_from(sorted(unary)), inner).map(
            lambda t: (t[0].format(t[1][0]), lambda x, y: unary[t[0]](t[1][1](x, y)))
        )
        return two | one

    return st.recursive(leaf, larger, max_leaves=8)


@settings(max_examples=300, deadline=None)
@given(_trees(), st.floats(0.4, 1.6), st.floats(0.4, 1.6))
def test_the_gradient_of_any_sentence_is_that_of_a_complex_step(pair, x, y):
    text, function = pair
    assume(len(text) <= 400)
    point = np.array([x, y])
    with np.errstate(all="ignore"):
        value = function(np.complex128(x), np.complex128(y))
        grad = _complex_step(function, point)
    numbers = np.array([value, *grad])
    assume(np.isfinite(numbers).all() and np.abs(numbers).max() < 1e4)
    ours, ours_grad = expression.parse(text, variables=("x", "y")).value_and_grad(point)
    scale = np.abs(numbers).max()
    np.testing.assert_allclose(ours, value.real, rtol=TOLERANCE, atol=TOLERANCE * max(scale, 1))
    np.testing.assert_allclose(ours_grad, grad, rtol=TOLERANCE, atol=TOLERANCE * max(scale, 1))


@pytest.mark.parametrize("text", [text for text, _ in ANALYTIC])
def test_a_point_has_the_same_bits_alone_and_in_any_grid(text):
    f = expression.parse(text, variables=("x", "y"))
    grid = POINTS.reshape(5, 8, 2)
    values, grads = f.value_and_grad(grid)
    for index in np.ndindex(5, 8):
        value, grad = f.value_and_grad(grid[index])
        assert value == values[index]
        assert np.array_equal(grad, grads[index])
    strided = np.asfortranarray(grid)[::-1, ::2]
    assert np.array_equal(f.value_and_grad(strided)[1], grads[::-1, ::2])
    assert np.array_equal(f(grid), values)
    assert np.array_equal(f.value(grid[..., 0], grid[..., 1]), values)


@pytest.mark.parametrize("exponent", [-1.0, 0.0, 0.5, 1.0, 2.0, 3.0])
def test_a_varying_exponent_has_the_same_bits_alone_where_it_is_a_simple_number(exponent):
    f = expression.parse("tanh(x)^y")
    points = np.stack([POINTS[:, 0], np.full(len(POINTS), exponent)], axis=-1)
    values, grads = f.value_and_grad(points)
    for point, value, grad in zip(points, values, grads):
        assert f(point) == value
        assert f(point[None]).tolist() == [value]
        assert np.array_equal(f.grad(point), grad)


@pytest.mark.parametrize(
    ("text", "point", "expected"),
    [
        ("abs(x)", [0.0], [0.0]),
        ("relu(x)", [0.0], [0.0]),
        ("sign(x)", [0.0], [0.0]),
        ("sign(x)*x", [-2.0], [-1.0]),
        ("floor(x)", [1.0], [0.0]),
        ("sqrt(x)", [0.0], [np.inf]),
        ("sqrt(x^2 + y^2)", [0.0, 0.0], [0.0, 0.0]),
        ("x^0.5", [0.0], [np.inf]),
        ("(x^2)^0.5", [0.0], [0.0]),
        ("cbrt(x^3)", [0.0], [0.0]),
        ("acos(cos(x))", [0.0], [0.0]),
        ("x^0", [0.0], [0.0]),
        ("x^1", [0.0], [1.0]),
        ("x^2", [0.0], [0.0]),
        ("x^2", [-3.0], [-6.0]),
        ("x^3", [-3.0], [27.0]),
        ("x^1.5", [0.0], [0.0]),
        ("x^y", [0.0, 2.0], [0.0, 0.0]),
        ("x^y", [0.0, 0.0], [0.0, -np.inf]),
        ("x^y", [-2.0, 3.0], [12.0, np.nan]),
        ("0^x", [1.0], [0.0]),
        ("1^x", [5.0], [0.0]),
        ("(-2)^(-relu(x))", [-1.0], [0.0]),
        ("(3/relu(x))^-18 + x", [-1.0], [1.0]),
        ("relu(x)^-2 + relu(x)^-1.5 + x", [-1.0], [1.0]),
        ("log(relu(x)) + log2(relu(x)) + log10(relu(x)) + x", [-1.0], [1.0]),
        ("log(x)", [0.0], [np.inf]),
        ("relu(x)/x^0.5", [0.0], [np.nan]),
        ("log(x)*0/0", [-1.0], [np.nan]),
    ],
)
def test_at_a_kink_the_stated_convention_holds(text, point, expected):
    f = expression.parse(text)
    assert np.array_equal(f.grad(point), expected, equal_nan=True)
    assert np.array_equal(f.grad([point, point]), [expected, expected], equal_nan=True)


def test_whole_powers_of_negative_numbers_are_exact():
    x = -np.arange(1.0, 9.0)
    for n in range(1, 17):
        value, grad = expression.parse(f"x^{n}").value_and_grad(x[:, None])
        assert value.tolist() == [float(int(v) ** n) for v in x]
        assert grad[:, 0].tolist() == [float(n * int(v) ** (n - 1)) for v in x]


def test_the_slopes_keep_their_precision_far_out():
    # Closed forms of the tails: the naive 1 - tanh^2 and s (1 - s) would be 0 or lose digits.
    assert expression.parse("tanh(x)").grad([20.0])[0] == pytest.approx(4 * np.exp(-40.0), rel=1e-12)
    assert expression.parse("sigmoid(x)").grad([40.0])[0] == pytest.approx(np.exp(-40.0), rel=1e-12)
    assert expression.parse("sigmoid(x)")([-700.0]) == pytest.approx(np.exp(-700.0), rel=1e-12)
    assert expression.parse("softplus(x)")([1000.0]) == 1000.0
