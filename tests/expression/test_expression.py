"""What a typed function means: precedence, implied multiplication, values, errors and their columns."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmsprop import expression
from rmsprop.errors import ExpressionError, InputError, InputTypeError, RMSpropError

X, Y = 1.25, -0.75

# What is typed, and what it means in Python.
MEANINGS = """
    -x^2            -(x**2)
    -x**2           -(x**2)
    (-x)^2          x**2
    2^-1            0.5
    2^3^2           512
    2**3**2         512
    (2^3)^2         64
    2^(1 + 2)       8
    2^(2*x)         2**(2*x)
    2^-x^2          2**-(x**2)
    -2^2            -4
    1 - 2 - 3       -4
    8/4/2           1
    8/4*2           4
    1 + 2*3         7
    --x             x
    -+-x            x
    x - -y          x + y
    x*-y            -x*y
    x/-y            -x/y
    +x              x
    2x              2*x
    2x^2            2*x**2
    -2x^2           -2*x**2
    2xy             2*x*y
    2x^2 + 2xy      2*x**2 + 2*x*y
    xy^2            x*y**2
    xxy             x*x*y
    3(x + y)        3*(x + y)
    3sin(x)         3*sin(x)
    2pi*x           2*pi*x
    2e*x            2*e*x
    2e3x            2000*x
    2e-1*x          0.2*x
    x*2y            x*2*y
    2x/4            2*x/4
    .5x             0.5*x
    1.x             x
    007x            7*x
    1.5E+2          150
    ln(3)           log(3)
    arcsin(0.5)     asin(0.5)
    arccos(0.5)     acos(0.5)
    arctan(x)       atan(x)
    floor(y)        -1
    sign(y)         -1
    relu(y)         0
    abs(y)          0.75
    softplus(0)     log(2)
    sigmoid(0)      0.5
    gauss(x)        exp(-x*x)
    cbrt(-8)        -2
    log2(8) + log10(1000)      6
    0^0             1
    x^0             1
    x^1             x
    x^17            x**17
"""
PAIRS = [tuple(part.strip() for part in line.strip().split("  ", 1)) for line in MEANINGS.strip().splitlines()]


@pytest.mark.parametrize(("text", "python"), PAIRS)
def test_a_text_means_what_mathematics_means_by_it(text, python):
    expected = eval(python, {**vars(math), "x": X, "y": Y})
    f = expression.parse(text, variables=("x", "y"))
    assert f([X, Y]) == pytest.approx(expected, rel=1e-14, abs=0)


def test_white_space_and_line_breaks_mean_nothing():
    assert expression.parse("\t( x+\ny )\r\n  ") == expression.parse("x+y")


@pytest.mark.parametrize("text", [text for text, _ in PAIRS])
def test_the_normal_form_parses_to_the_same_function(text):
    first = expression.parse(text)
    again = expression.parse(str(first))
    assert (again, hash(again), str(again)) == (first, hash(first), str(first))


def test_the_normal_form_has_every_sign_and_few_parentheses():
    assert str(expression.parse("2x^2+2xy - (x+(1))*((3))+1e999")) == "2*x^2 + 2*x*y - (x + 1)*3 + 1e309"
    for name in expression.FUNCTIONS:
        assert str(expression.parse(f"{name}(x)")) == f"{name}(x)"


@given(st.lists(st.sampled_from(["x", "y", "2", "1e5", "pi", "-", "+", "*", "/", "^", "(", ")", "sin(", "log("])))
def test_the_normal_form_of_any_text_parses_to_the_same_function(pieces):
    try:
        first = expression.parse(" ".join(pieces))
    except ExpressionError:
        return
    if len(str(first)) <= 400:
        assert expression.parse(str(first)) == first


COLUMNS = {
    0: ["", "   ", "(x + y", "|x|", "."],
    1: ["()", "x(2)", "x,y", "x!"],
    2: ["2*(x + (y)", "x $ y", "1 2", "x y", "x 2", "y = x", "pi(x)"],
    3: ["x +", "x +  ", "sin", "sin^2(x)", "1.2.3", "(x)(y)", "1/2x", "1/2(x)", "1/xy", "x^2y", "x^xy", "(x)2"],
    4: ["x + * y", "sin()", "sin x", "x + z", "x + foo(x)", "-x^2y", "-+x^", "1/-2x"],
    5: ["x + y)", "x**2 y"],
    6: ["sin(x)cos(y)"],
    40: ["(" * 41 + "x" + ")" * 41, "-" * 41 + "x"],
    81: ["x" + "^1" * 41],
    # Letters side by side are multiplied, and each such product counts too.
    150: ["x" * 200],
    # Each "+x" counts as two and the first x as one: number 301 is the x of column 300.
    300: ["x" + "+x" * 199],
    400: ["x" + " " * 400],
}


@pytest.mark.parametrize(("text", "column"), [(text, column) for column, texts in COLUMNS.items() for text in texts])
def test_an_error_points_at_the_column(text, column):
    with pytest.raises(ExpressionError) as caught:
        expression.parse(text)
    assert (caught.value.column, caught.value.text) == (column, text)
    assert f"column {column + 1}:" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("sine(x)", "did you mean 'sin'"),
        ("X^2", "did you mean 'x'"),
        ("arctanh(x)", "did you mean 'arctan'"),
        ("t^2", "the variables are x and y"),
        ("x2", "write x^2 for a power, 2*x for a product"),
        ("0.1*y10", "write y^10 for a power, 10*y for a product"),
        ("x^2y", "write ^2*y or ^(2*y)"),
        ("1/2x", "write /2*x or /(2*x)"),
        ("1/2sin(x)", "write /2*sin(...) or /(2*sin(...))"),
        ("1/2(x)", "write /2*(...) or /(2*(...))"),
        ("x(2)", "x is not a function"),
        ("x y", "write *"),
        ("sin x", "sin(x)"),
        ("|x|", "abs(x)"),
        ("x\N{SUPERSCRIPT TWO}", "write ^2"),
        ("2\N{MULTIPLICATION SIGN}x", "write *"),
        ("\N{MINUS SIGN}x", "write -"),
        ("f=x", "right-hand side"),
        ("atan(x, y)", "one argument"),
        ("\N{CYRILLIC SMALL LETTER HA}", "CYRILLIC SMALL LETTER HA"),
    ],
)
def test_an_error_says_what_to_do(text, advice):
    with pytest.raises(ExpressionError) as caught:
        expression.parse(text)
    assert advice in caught.value.reason


def test_the_message_shows_the_place_and_nothing_unprintable():
    with pytest.raises(ValueError, match="column 5: unexpected character") as caught:
        expression.parse("x +\t\x1b[31m")
    assert isinstance(caught.value, RMSpropError)
    first, line, caret = str(caught.value).splitlines()
    assert first.isprintable()
    assert line.isprintable()
    assert caret.index("^") - 2 == caught.value.column == 4


def test_the_variables_are_those_of_the_text_unless_given():
    assert [expression.parse(text).variables for text in ("3", "x", "y")] == [("x",), ("x",), ("x", "y")]
    wide = expression.parse("x^2", variables=("x", "y"))
    assert wide.variables == ("x", "y")
    assert wide.grad([3.0, 5.0]).tolist() == [6.0, 0.0]
    assert wide != expression.parse("x^2")
    with pytest.raises(ExpressionError, match="y in a function of x alone") as caught:
        expression.parse("x + y", variables=("x",))
    assert caught.value.column == 4
    with pytest.raises(ExpressionError, match="variables"):
        expression.parse("x", variables=("t",))


def test_an_expression_is_frozen_survives_a_pickle_and_shows_what_was_given_to_parse():
    f = expression.parse("2x", variables=("x", "y"))
    with pytest.raises(AttributeError):
        f.text = "x"
    again = pickle.loads(pickle.dumps(f))
    assert again == f
    assert (again.text, again([2.0, 0.0])) == ("2x", 4.0)
    assert repr(f) == "Expression('2x', variables=('x', 'y'))"
    assert repr(expression.parse("2x")) == "Expression('2x')"


def test_a_single_point_gives_a_float_and_many_give_an_array_of_their_shape():
    f = expression.parse("x*y")
    value, grad = f.value_and_grad([2.0, 3.0])
    assert type(value) is type(f([2.0, 3.0])) is float
    assert (grad.shape, grad.dtype) == ((2,), np.float64)
    values, grads = f.value_and_grad(np.ones((4, 5, 2), np.float32))
    assert (values.shape, values.dtype, grads.shape, grads.dtype) == ((4, 5), np.float64, (4, 5, 2), np.float64)
    assert f(np.ones((0, 2))).shape == (0,)


def test_a_function_of_one_variable_takes_a_number_too():
    f = expression.parse("x^3")
    value, grad = f.value_and_grad(2.0)
    assert (value, grad.shape, float(grad)) == (8.0, (), 12.0)
    assert f.grad([[1.0], [2.0]]).tolist() == [[3.0], [12.0]]
    assert f.value(2) == 8.0


@pytest.mark.parametrize("text", ["3", "pi", "x", "+x", "x^1", "y", "sign(x)", "x^0"])
def test_the_result_has_the_points_shape_and_is_not_the_callers_array(text):
    f = expression.parse(text, variables=("x", "y"))
    points = np.arange(12.0).reshape(2, 3, 2)
    values, grads = f.value_and_grad(points)
    assert values.shape == (2, 3)
    assert grads.shape == points.shape
    x = np.arange(3.0)
    assert not np.shares_memory(f.value(x, x), x)
    column = np.ascontiguousarray(points[..., :1])
    assert not np.shares_memory(expression.parse("x")(column), column)


def test_value_broadcasts_x_with_y():
    x, y = np.linspace(-1, 1, 5), np.linspace(-2, 2, 7)[:, None]
    assert np.array_equal(expression.parse("x^2 - x*y").value(x, y), x * x - x * y)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda f: f([1.0]), InputError, r"point: shape \(1,\), expected \(\.\.\., 2\) for a function of x and y"),
        (lambda f: f(1.0), InputError, r"point: shape \(\)"),
        (lambda f: f.grad(np.ones((2, 3))), InputError, r"point: shape \(2, 3\)"),
        (lambda f: f([1j, 2.0]), InputTypeError, "point: dtype complex128"),
        (lambda f: f(["1", "2"]), InputTypeError, "point: dtype"),
        (lambda f: f([True, False]), InputTypeError, "point: dtype bool"),
        (lambda f: f([[1.0], [1.0, 2.0]]), InputError, "point: not an array"),
        (lambda f: f.value(1.0), InputError, "y: no y, expected values for x and y"),
        (lambda f: f.value([1.0, 2.0], [1.0, 2.0, 3.0]), InputError, "y: shape .* broadcasts"),
        (lambda f: f.value("x", 1.0), InputTypeError, "x: dtype"),
        (lambda f: expression.parse("x").value(1.0, 2.0), InputError, "y: a y"),
    ],
)
def test_a_point_that_does_not_fit_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(expression.parse("x*y"))


@pytest.mark.parametrize("text", [None, 3, b"x", ["x"], object()])
def test_a_text_that_is_no_str_is_refused(text):
    with pytest.raises(ExpressionError, match=r"text: .*, expected a str"):
        expression.parse(text)
