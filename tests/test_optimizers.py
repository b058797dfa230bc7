"""Promise: one table holds the name, the look and the defaults of every optimizer."""

import dataclasses
import inspect
import pathlib
import re

import pytest

from rmsprop import baselines
from rmsprop.lab.tables import build_tables
from rmsprop.optimizers import TABLE
from rmsprop.race import choice
from rmsprop.race.picture import line_style
from rmsprop.view.style import THEMES, assign_looks

ROOT = pathlib.Path(__file__).parent.parent
FOLDERS = ("src/rmsprop/**/*.py", "web/src/**/*.*", "docs/*.py", "bench/*.py")
SOURCES = [path for pattern in FOLDERS for path in ROOT.glob(pattern)]


@pytest.mark.parametrize("name", baselines.names())
def test_the_defaults_are_those_of_the_baseline(name):
    parameters = inspect.signature(baselines.get(name)).parameters
    assert dict(TABLE[name].hyperparameters) == {key: parameters[key].default for key in list(parameters)[2:]}


def test_every_optimizer_in_numpy_but_rmsprop_is_a_baseline():
    assert {name for name, row in TABLE.items() if "numpy" in row.builds} == {*baselines.names(), "rmsprop"}


@pytest.mark.parametrize("name", TABLE)
def test_an_optimizer_looks_the_same_in_a_benchmark_a_picture_and_the_lab(name):
    row = TABLE[name]
    for theme, color in (("light", row.light), ("dark", row.dark)):
        (look,) = assign_looks([name], THEMES[theme])
        assert dataclasses.astuple(look) == (color, row.marker, row.dash)
    style = line_style(row.short)
    assert (style["color"], style["marker"], style["linestyle"]) == (row.light, row.marker, row.dash)
    shown = {item["name"]: item for item in build_tables()["optimizers"]}
    assert (name in shown) == ("numpy" in row.builds)
    if name in shown:
        keys = ("label", "light", "dark", "marker")
        assert [shown[name][key] for key in keys] == [getattr(row, key) for key in keys]


def test_no_other_file_repeats_the_colors():
    assert len(SOURCES) > 100
    own = {color for row in TABLE.values() for color in (row.light, row.dark)} - {"#ffffff"}
    for source in SOURCES:
        if source.name not in ("optimizers.py", "_theme.py"):
            assert not own & set(re.findall("#[0-9a-f]{6}", source.read_text(encoding="utf-8"))), source


def test_no_other_file_has_a_table_keyed_by_optimizer():
    assert len(SOURCES) > 100
    keys = re.compile(r"^\s*[\"']?(?:adagrad|adadelta|adamw)[\"']?: ", re.MULTILINE)
    for source in SOURCES:
        assert not keys.search(source.read_text(encoding="utf-8")), source


@pytest.mark.parametrize("name", choice.names())
def test_the_command_line_knows_every_row(name):
    assert choice.get(name) is TABLE[{"sgd": "gradient_descent"}.get(name, name)]
