"""Typed text is data: nothing hostile passes, nothing takes long, nothing but the parser's own error comes out."""

from __future__ import annotations

import ast
import math
import pathlib
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmsprop import expression
from rmsprop.errors import ExpressionError
from rmsprop.expression.dual import build

# Python that is no mathematics, separated by two spaces.
PYTHON = """
__import__('os').system('id')  __import__  __builtins__  x.__class__  ().__class__  sin.__globals__  sin.__self__(x)
x.__class__.__bases__[0].__subclasses__()  (1).real  1..real  x.real  x[0]  x[::1]  {x}  {'x': 1}  [x]  (x, y)  x, y
[x for x in (1, 2)]  (x for x in y)  lambda: x  lambda x: x  (lambda: x)()  x if y else 1  x or y  x and y  not x
x in y  x is y  x == y  x < y  x >= y  x != y  x = 1  (x := 1)  x; y  import os  del x  assert x  yield x  await x
print(x)  eval(x)  exec(x)  open(x)  getattr(x, y)  globals()  type(x)  'x'  "x"  '''x'''  f'{x}'  b'x'  `x`
x # comment  # comment  x @ y  x % y  x // y  x & y  x | y  ~x  x << 2  x >> 2  x -> y  x ** ** y  *x  **x
1j  2J*x  0x10  0b1  0o7  1_000  1__0  _  x_  True  None  ...  inf  nan  infj  1e+  sin(sin)  sin(x)(y)  sin(*x)
sin(**x)  sin(x=1)  sin(x, y)  sin(x,)  $x  ${x}  %s  <script>
"""
# What Python's own reader would fold into ASCII, skip, or take as the end.
CHARACTERS = [
    "x\0",
    "\0",
    "x\\\ny",
    "x\\",
    "x\x0b+ y",
    "x\x0c",
    "\x1b[2Jx",
    "\ufeffx",
    "x\u200b",
    "x\u00a0+ 1",
    "x\u2028y",
    "\u202ex",
    "\ud800",
    "\N{FULLWIDTH DIGIT ONE}",
    "\N{FULLWIDTH LATIN SMALL LETTER X}",
    "\N{ARABIC-INDIC DIGIT ONE}",
    "1\N{ARABIC-INDIC DIGIT ONE}",
    "\N{CYRILLIC SMALL LETTER HA}",
    "s\N{CYRILLIC SMALL LETTER BYELORUSSIAN-UKRAINIAN I}n(x)",
    "\N{MATHEMATICAL ITALIC SMALL X}",
    "\N{LATIN SMALL LETTER LONG S}in(x)",
    "x\N{COMBINING ACUTE ACCENT}",
    "x\N{FULLWIDTH PLUS SIGN}y",
    "\N{FULLWIDTH LEFT PARENTHESIS}x\N{FULLWIDTH RIGHT PARENTHESIS}",
    "\N{VULGAR FRACTION ONE HALF}",
    "\N{INFINITY}",
]
TOO_LARGE = [
    "x" * 401,
    "x" * 10**6,
    "9" * 10**6,
    "(" * 10**5 + "x" + ")" * 10**5,
    "(" * 100 + "x" + ")" * 100,
    "-" * 100 + "x",
    "x" + "^x" * 60,
    "sin(" * 60 + "x" + ")" * 60,
    "+".join(["x"] * 200),
    "xy" * 200,
]


def split_words(table):
    """Split a table of texts at double spaces and line ends."""
    return re.split(r"  |\n", table.strip())


HOSTILE = [*split_words(PYTHON), *CHARACTERS, *TOO_LARGE]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:30]))
def test_a_hostile_text_is_refused(text):
    with pytest.raises(ExpressionError) as caught:
        expression.parse(text)
    assert caught.value.text == text
    assert 0 <= caught.value.column <= len(text)
    assert len(str(caught.value)) < 1500
    assert all(line.isprintable() for line in str(caught.value).splitlines())
    str(caught.value).encode()


@pytest.mark.parametrize("text", ["9**9**9", "9^9^9^9^9", "1e999", "9**9**9**x", "(10^300)^(10^300)", "exp(exp(100))"])
def test_a_number_too_large_is_infinite_at_once(text):
    assert expression.parse(text)([1.0]) == math.inf


STEEP = """
1/x  0/x  1/0  0/0 + x  x/0  log(x)  sqrt(x)  x^0.5  x^-1  x^-3.5  x^16  x*x*x  x^y  x - y  asin(x)  exp(x)  1e999*x
cosh(x)*exp(y)  tan(x)*x^x  sigmoid(x) + softplus(x) + gauss(x) + tanh(x) + atan(x)
"""
EXTREMES = [0.0, -1.0, 0.5, 2.0, 1e4, -1e4, 1e300, 1e-200, math.inf, math.nan]


@pytest.mark.parametrize("text", split_words(STEEP))
def test_no_point_raises_or_warns_whatever_the_value(text):
    f = expression.parse(text, variables=("x", "y"))
    points = np.array([(x, y) for x in EXTREMES for y in EXTREMES])
    values, grads = f.value_and_grad(points)
    assert values.dtype == grads.dtype == np.float64
    for point, value, grad in zip(points, values, grads, strict=True):
        assert np.array_equal(f(point), value, equal_nan=True)
        assert np.array_equal(f.grad(point), grad, equal_nan=True)


def test_outside_the_domain_both_value_and_gradient_are_nan():
    for text, point in [("log(x)", -1.0), ("log2(x)", -1.0), ("log10(x)", -2.0), ("sqrt(x)", -1.0), ("acos(x)", 1.5)]:
        value, grad = expression.parse(text).value_and_grad([point])
        assert math.isnan(value)
        assert np.isnan(grad).all()


def test_the_largest_texts_that_pass_are_evaluated():
    for text in (
        "(" * 40 + "x" + ")" * 40,
        "-" * 40 + "x",
        "x" + "+x" * 149,
        "x" + "^1" * 40,
        "sin(" * 40 + "x" + ")" * 40,
    ):
        value, grad = expression.parse(text).value_and_grad([0.5])
        assert math.isfinite(value)
        assert np.isfinite(grad).all()


def test_no_module_of_the_parser_can_execute_text():
    forbidden = {"eval", "exec", "compile", "__import__", "getattr", "globals", "literal_eval", "import_module"}
    for path in pathlib.Path(expression.__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        # re.compile is the one attribute of that name.
        attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} - {"compile"}
        imports = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        assert not forbidden & (names | attributes)
        assert not {"builtins", "importlib", "sympy", "numexpr", "operator"} & imports


@pytest.mark.parametrize("error", [SyntaxError("no"), ValueError("null bytes"), MemoryError(), RecursionError()])
def test_an_error_of_pythons_parser_is_the_librarys(error, monkeypatch):
    def fail(source, mode):
        raise error

    monkeypatch.setattr(ast, "parse", fail)
    with pytest.raises(ExpressionError, match="column 1: Python cannot parse it"):
        expression.parse("x")


NODES = """
x @ y  x % y  ~x  +x  x.real  x[0]  z  f(x)  sin()  sin(x, y)  sin(*x)  sin(x=x)  x.sin(x)  'x'  1  1j  True  None
(x, y)  x < y  x and y  x if y else x  lambda: x
"""


@pytest.mark.parametrize("source", split_words(NODES))
def test_only_the_nodes_of_the_language_are_evaluated(source):
    with pytest.raises(TypeError, match="is not part of the language"):
        build(ast.parse(source, mode="eval").body)


def assert_gives_floats_or_the_parsers_error(text):
    f, error = None, None
    try:
        f = expression.parse(text)
    except ExpressionError as caught:
        error = caught
    if error is not None:
        assert error.text == text
        assert 0 <= error.column <= len(text)
        return
    points = np.array([[0.0, 0.0], [1.5, -2.0], [-1e200, 1e200], [np.inf, np.nan]])[:, : len(f.variables)]
    values, grads = f.value_and_grad(points)
    assert (values.dtype, values.shape) == (np.float64, (4,))
    assert (grads.dtype, grads.shape) == (np.float64, points.shape)
    for point, value in zip(points, values, strict=True):
        alone = f(point)
        assert type(alone) is float
        assert np.array_equal(alone, value, equal_nan=True)


PIECES = ["x", "y", "xy", "e", "pi", "0", "1", "2", ".5", "1e3", "1e999", " ", "(", ")", "+", "-", "*", "/", "^", "**"]
PIECES += [f"{name}(" for name in expression.FUNCTIONS] + ["ln(", "_", ".", ",", "\0", "[", "\N{FULLWIDTH DIGIT ONE}"]


@settings(max_examples=400, deadline=None)
@given(st.text(max_size=450))
def test_any_text_gives_floats_or_the_parsers_error(text):
    assert_gives_floats_or_the_parsers_error(text)


@settings(max_examples=600, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
def test_any_run_of_tokens_gives_floats_or_the_parsers_error(text):
    assert_gives_floats_or_the_parsers_error(text)


_SENTENCES = st.recursive(
    st.sampled_from(["x", "y", "0", "1", "2", "0.5", "pi", "e", "2x", "xy", "1e999"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/^"), inner).map(lambda t: f"({t[0]}){t[1]}({t[2]})"),
        st.tuples(st.sampled_from([*expression.FUNCTIONS, "-"]), inner).map(lambda t: f"{t[0]}({t[1]})"),
    ),
    max_leaves=12,
)


@settings(max_examples=600, deadline=None)
@given(_SENTENCES)
def test_any_sentence_gives_floats(text):
    assert_gives_floats_or_the_parsers_error(text)
