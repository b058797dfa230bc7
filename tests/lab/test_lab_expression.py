"""Promise: the page reads a typed function as `rmsprop.expression` does: errors, columns, values and slopes."""

from __future__ import annotations

import random
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from engine import call

from rmsprop import expression
from rmsprop.errors import ExpressionError
from rmsprop.expression import FUNCTIONS

sys.path.insert(0, str(Path(__file__).parents[1] / "expression"))
from test_expression import COLUMNS, PAIRS
from test_expression_safety import HOSTILE, STEEP, split_words

EXACT = ("sqrt", "abs", "sign", "floor", "relu")
"""Their values are IEEE operations, so their bits are the same; the others' are a few units away."""
POINTS = [[0.7, -1.3], [-0.4, 0.6], [0.0, 0.0], [1.0, -1.0], [2.5, 3.0], [1e200, -1e-200], [np.pi, 0.0]]
TOKENS = ["x", "y", "xy", "e", "pi", "0", "1", "2", ".5", "1e3", "1e999", " ", "(", ")", "+", "-", "*", "/", "^", "**"]
TOKENS += ["3.", "x2", "sine", "arcsin", "ln", "z", ",", "=", "\u00d7", "\u2212", "\u00b2", "%", "'", "\\", "in"]
TOKENS += [f"{name}(" for name in FUNCTIONS]


def write_sentence(choose: random.Random, functions: tuple[str, ...], depth: int = 4) -> str:
    """Return a random text of the language."""
    kind = choose.randrange(8) if depth else choose.randrange(2)
    inner = [write_sentence(choose, functions, depth - 1) for _ in range(2)] if kind > 1 else []
    if kind == 0:
        return choose.choice("xy")
    if kind == 1:
        return choose.choice(["0", "1", "2", "0.5", "3", "1.25"])
    if kind == 2:
        return f"-({inner[0]})"
    if kind == 3:
        return f"{choose.choice(functions)}({inner[0]})"
    if kind == 4:
        return f"({inner[0]})^{choose.choice(['2', '3', '5', '-1', '-2', '0', '1', '16'])}"
    return f"({inner[0]}){choose.choice('+-*/')}({inner[1]})"


def evaluate(texts: list[str], points: list[list[float]]) -> list:
    return call(*(("expression", {"text": text, "points": points}) for text in texts))


def read_error(text: str) -> tuple[str, int] | None:
    try:
        expression.parse(text, variables=("x", "y"))
    except ExpressionError as error:
        # The page has the names of those characters alone that it has advice for, and counts in UTF-16.
        reason = re.sub(r" \((no name|[A-Z0-9 +-]+)\): only", ": only", error.reason)
        return reason, len(text[: error.column].encode("utf-16-le", "surrogatepass")) // 2
    return None


def assert_same_errors(texts: list[str]) -> None:
    for text, answer in zip(texts, evaluate(texts, POINTS[:1]), strict=True):
        expected = read_error(text)
        found = answer.get("error")
        if expected is None:
            assert found is None, (text, found)
        else:
            assert found is not None, (text, expected)
            shown = re.sub(r" \(U\+[0-9A-F]+\): only", ": only", found["message"])
            assert (shown, found["column"]) == expected, text


def test_hostile_texts_have_the_librarys_errors():
    columns = [text for texts in COLUMNS.values() for text in texts]
    assert_same_errors([text for text in [*HOSTILE, *columns, *split_words(STEEP)] if len(text) < 10**4])


def test_any_run_of_tokens_is_read_or_refused_as_in_the_library():
    choose = random.Random(1)
    assert_same_errors(["".join(choose.choices(TOKENS, k=choose.randrange(1, 12))) for _ in range(3000)])


def compare(texts: list[str], points: list[list[float]]) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Return the texts with the library's and the page's numbers, one row for each of value, d/dx and d/dy."""
    found = []
    for text, answer in zip(texts, evaluate(texts, points), strict=True):
        value, grad = expression.parse(text, variables=("x", "y")).value_and_grad(points)
        ours = answer["value"]
        found.append((text, np.stack([value, *grad.T]), np.stack([ours["value"], ours["byX"], ours["byY"]])))
    return found


def test_2500_random_functions_of_exact_operations_have_the_librarys_bits():
    choose = random.Random(2)
    texts = [write_sentence(choose, EXACT) for _ in range(2500)]
    for text, expected, found in compare([text for text in texts if len(text) <= 400], POINTS):
        np.testing.assert_array_equal(found, expected, err_msg=text)


def test_2500_random_functions_agree_where_they_are_well_conditioned():
    choose = random.Random(3)
    texts = [write_sentence(choose, FUNCTIONS, 3) for _ in range(2500)]
    points = [[0.7, -1.3], [0.4, 0.6], [1.6, 1.1]]
    nudged = (np.array(points) * (1 + 1e-13)).tolist()
    compared = 0
    for text, expected, found in compare([text for text in texts if len(text) <= 400], points):
        value, grad = expression.parse(text, variables=("x", "y")).value_and_grad(nudged)
        with np.errstate(all="ignore"):
            moved = np.abs(np.stack([value, *grad.T]) - expected)
            size = np.abs(expected)
            # What the last digits of x and y hardly move.
            steady = (moved <= 1e-10 * size + 1e-12) & (size < 1e6)
        np.testing.assert_allclose(found[steady], expected[steady], rtol=1e-9, atol=1e-11, err_msg=text)
        compared += steady.sum()
    assert compared > 10_000


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in EXACT])
def test_a_function_is_within_4_units_in_the_last_place(name):
    places = np.concatenate([np.linspace(-0.99, 0.99, 199), np.linspace(-30, 30, 97), [1e-9, 1e-300, 700.0, 1e6]])
    ((_, expected, found),) = compare([f"{name}(x)"], [[x, 0.0] for x in places.tolist()])
    for row, allowed in ((0, 4), (1, 8)):  # a slope is made of two evaluations
        np.testing.assert_array_equal(np.isnan(found[row]), np.isnan(expected[row]))
        finite = np.isfinite(expected[row])
        np.testing.assert_array_equal(found[row][~finite], expected[row][~finite])
        distance = np.abs(found[row][finite] - expected[row][finite]) / np.spacing(np.abs(expected[row][finite]))
        assert distance.max() <= allowed, (name, places[finite][distance.argmax()])


def test_tutorial_texts_mean_what_they_mean_in_the_library():
    texts = [text for text, _ in PAIRS if read_error(text) is None]
    for text, expected, found in compare(texts, [[0.7, 1.3], [1.4, 0.6]]):
        np.testing.assert_allclose(found, expected, rtol=1e-12, err_msg=text)
