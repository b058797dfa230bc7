"""What a typed function means: precedence, juxtaposition, values, errors and their columns."""

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

MEANINGS = [
    ("-x^2", -(X**2)),
    ("-x**2", -(X**2)),
    ("(-x)^2", X**2),
    ("2^-1", 0.5),
    ("2^3^2", 512.0),
    ("2**3**2", 512.0),
    ("(2^3)^2", 64.0),
    ("2^(1 + 2)", 8.0),
    ("2^(2*x)", 2.0 ** (2 * X)),
    ("2^-x^2", 2.0 ** -(X**2)),
    ("-2^2", -4.0),
    ("1 - 2 - 3", -4.0),
    ("8/4/2", 1.0),
    ("8/4*2", 4.0),
    ("1 + 2*3", 7.0),
    ("--x", X),
    ("-+-x", X),
    ("x - -y", X - -Y),
    ("x*-y", X * -Y),
    ("x/-y", X / -Y),
    ("+x", X),
    ("2x", 2 * X),
    ("2x^2", 2 * X**2),
    ("-2x^2", -2 * X**2),
    ("2xy", 2 * X * Y),
    ("2x^2 + 2xy", 2 * X**2 + 2 * X * Y),
    ("xy^2", X * Y**2),
    ("xxy", X * X * Y),
    ("3(x + y)", 3 * (X + Y)),
    ("3sin(x)", 3 * math.sin(X)),
    ("2pi*x", 2 * math.pi * X),
    ("2e*x", 2 * math.e * X),
    ("2e3x", 2000.0 * X),
    ("2e-1*x", 0.2 * X),
    ("x*2y", X * 2 * Y),
    ("2x/4", 2 * X / 4),
    (".5x", 0.5 * X),
    ("1.x", X),
    ("1.5E+2", 150.0),
    ("ln(3)", math.log(3)),
    ("arcsin(0.5)", math.asin(0.5)),
    ("floor(y)", -1.0),
    ("sign(y)", -1.0),
    ("relu(y)", 0.0),
    ("abs(y)", 0.75),
    ("softplus(0)", math.log(2)),
    ("sigmoid(0)", 0.5),
    ("gauss(x)", math.exp(-(X**2))),
    ("cbrt(-8)", -2.0),
    ("log2(8) + log10(1000)", 6.0),
    ("\t( x+\ny )  ", X + Y),
    ("0^0", 1.0),
    ("x^0", 1.0),
    ("x^17", X**17),
]


@pytest.mark.parametrize(("text", "expected"), MEANINGS)
def test_a_text_means_what_mathematics_means_by_it(text, expected):
    assert expression.parse(text, variables=("x", "y"))([X, Y]) == pytest.approx(expected, rel=1e-14, abs=0)


@pytest.mark.parametrize(("text", "_"), MEANINGS)
def test_the_normalised_text_parses_to_the_same_function(text, _):
    first = expression.parse(text)
    again = expression.parse(str(first))
    assert again == first
    assert hash(again) == hash(first)
    assert str(again) == str(first)


def test_the_normalised_text_has_every_sign_and_no_needless_parenthesis():
    assert str(expression.parse("2x^2+2xy - (x+(1))*((3))")) == "2*x^2 + 2*x*y - (x + 1)*3"


COLUMNS = [
    ("", 0),
    ("   ", 0),
    ("x +", 3),
    ("x +  ", 3),
    ("x + * y", 4),
    ("(x + y", 0),
    ("2*(x + (y)", 2),
    ("x + y)", 5),
    ("()", 1),
    ("sin()", 4),
    ("sin x", 4),
    ("sin", 3),
    ("sin^2(x)", 3),
    ("x $ y", 2),
    ("x + z", 4),
    ("x + foo(x)", 4),
    ("1 2", 2),
    ("1.2.3", 3),
    ("x y", 2),
    ("x 2", 2),
    ("x(2)", 1),
    ("(x)(y)", 3),
    ("sin(x)cos(y)", 6),
    ("1/2x", 3),
    ("1/2(x)", 3),
    ("1/xy", 3),
    ("x^2y", 3),
    ("-x^2y", 4),
    ("x^xy", 3),
    ("x**2 y", 5),
    ("x,y", 1),
    ("y = x", 2),
    ("|x|", 0),
    ("x!", 1),
    ("x" + " " * 400, 400),
    ("(" * 41 + "x" + ")" * 41, 40),
    ("-" * 41 + "x", 40),
    # Each "+x" is two nodes and the first x is one: the 301st is the x of column 300.
    ("x" + "+x" * 199, 300),
    # Letters side by side are multiplied, and each such product is a node too.
    ("x" * 200, 150),
]


@pytest.mark.parametrize(("text", "column"), COLUMNS)
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
        ("Sqrt(x)", "did you mean 'sqrt'"),
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


def test_the_caret_stands_under_the_column_and_nothing_unprintable_is_printed():
    with pytest.raises(ExpressionError) as caught:
        expression.parse("x +\t\x1b[31m")
    first, line, caret = str(caught.value).splitlines()
    assert line.isprintable()
    assert caret.index("^") - 2 == caught.value.column == 4
    assert first.isprintable()


def test_all_functions_are_named_in_the_list_and_parse():
    for name in expression.FUNCTIONS:
        assert str(expression.parse(f"{name}(x)")) == f"{name}(x)"


def test_the_variables_are_those_of_the_text_unless_given():
    assert expression.parse("3").variables == ("x",)
    assert expression.parse("x").variables == ("x",)
    assert expression.parse("y").variables == ("x", "y")
    wide = expression.parse("x^2", variables=("x", "y"))
    assert wide.variables == ("x", "y")
    assert wide.grad([3.0, 5.0]).tolist() == [6.0, 0.0]
    assert wide != expression.parse("x^2")
    with pytest.raises(ExpressionError, match="y in a function of x alone") as caught:
        expression.parse("x + y", variables=("x",))
    assert caught.value.column == 4
    with pytest.raises(ExpressionError, match="variables"):
        expression.parse("x", variables=("t",))


def test_the_repr_shows_what_was_given_to_parse():
    assert repr(expression.parse("2x")) == "Expression('2x')"
    assert repr(expression.parse("2x", variables=("x", "y"))) == "Expression('2x', variables=('x', 'y'))"


def test_an_expression_is_frozen_and_survives_a_pickle():
    f = expression.parse("x^2", variables=("x", "y"))
    with pytest.raises(AttributeError):
        f.text = "x"
    again = pickle.loads(pickle.dumps(f))
    assert again == f
    assert (again.text, again([2.0, 0.0])) == ("x^2", 4.0)


def test_one_point_gives_a_float_and_many_give_an_array_of_their_shape():
    f = expression.parse("x*y")
    value, grad = f.value_and_grad([2.0, 3.0])
    assert type(value) is float
    assert type(f([2.0, 3.0])) is float
    assert (grad.shape, grad.dtype) == ((2,), np.float64)
    values, grads = f.value_and_grad(np.ones((4, 5, 2), np.float32))
    assert (values.shape, values.dtype, grads.shape, grads.dtype) == ((4, 5), np.float64, (4, 5, 2), np.float64)
    assert f(np.ones((0, 2))).shape == (0,)


def test_a_function_of_one_variable_takes_a_number_too():
    f = expression.parse("x^3")
    value, grad = f.value_and_grad(2.0)
    assert (value, grad.shape, float(grad)) == (8.0, (), 12.0)
    assert f.grad([[1.0], [2.0]]).tolist() == [[3.0], [12.0]]


@pytest.mark.parametrize("text", ["3", "pi", "x", "+x", "x^1", "y", "sign(x)", "x^0"])
def test_a_plain_result_has_the_points_shape_and_is_not_the_callers_array(text):
    f = expression.parse(text, variables=("x", "y"))
    points = np.arange(12.0).reshape(2, 3, 2)
    values, grads = f.value_and_grad(points)
    assert values.shape == (2, 3)
    assert grads.shape == points.shape
    x = np.arange(3.0)
    assert not np.shares_memory(f.value(x, x), x)
    one = expression.parse("x")
    column = points[..., :1]
    assert not np.shares_memory(one(np.ascontiguousarray(column)), column)


def test_value_broadcasts_x_with_y():
    x, y = np.linspace(-1, 1, 5), np.linspace(-2, 2, 7)[:, None]
    assert np.array_equal(expression.parse("x^2 - x*y").value(x, y), x * x - x * y)
    assert expression.parse("x + 1").value(2) == 3.0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda f: f([1.0]), InputError, r"shape \(1,\), expected \(\.\.\., 2\)"),
        (lambda f: f(1.0), InputError, r"shape \(\), expected"),
        (lambda f: f.grad(np.ones((2, 3))), InputError, r"shape \(2, 3\), expected"),
        (lambda f: f([1j, 2.0]), InputTypeError, "complex128"),
        (lambda f: f(["1", "2"]), InputTypeError, "expected real numbers"),
        (lambda f: f([True, False]), InputTypeError, "bool"),
        (lambda f: f([[1.0], [1.0, 2.0]]), InputError, "point: not an array"),
        (lambda f: f.value(1.0), InputError, "no y"),
        (lambda f: f.value([1.0, 2.0], [1.0, 2.0, 3.0]), InputError, "broadcasts"),
        (lambda f: f.value(1.0, None), InputError, "no y"),
        (lambda f: f.value("x", 1.0), InputTypeError, "x: dtype"),
    ],
)
def test_a_point_that_does_not_fit_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(expression.parse("x*y"))


def test_a_y_for_a_function_of_x_alone_is_refused():
    with pytest.raises(InputError, match="a y"):
        expression.parse("x").value(1.0, 2.0)


@pytest.mark.parametrize("text", [None, 3, b"x", ["x"], object()])
def test_what_is_not_a_text_is_refused(text):
    with pytest.raises(ExpressionError, match="expected a str"):
        expression.parse(text)


def test_the_error_is_one_of_the_librarys_and_a_value_error():
    with pytest.raises(ValueError, match="column 1"):
        expression.parse("?")
    assert issubclass(ExpressionError, RMSpropError)


@given(st.lists(st.sampled_from(["x", "y", "2", "1e5", "pi", "-", "+", "*", "/", "^", "(", ")", "sin(", "log("])))
def test_whatever_parses_is_written_as_what_it_was(pieces):
    try:
        first = expression.parse(" ".join(pieces))
    except ExpressionError:
        return
    if len(str(first)) <= 400:
        assert expression.parse(str(first)) == first
