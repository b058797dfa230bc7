"""Promise: a recipe gives a published setting, in a rule that its host can be set to, with its source."""

from __future__ import annotations

import dataclasses

import pytest

from rmsprop import dialects, recipes
from rmsprop.errors import RuleError

# name, dialect, rho, eps, momentum, centered, lr, max_norm: written from the sources, not from the package.
PUBLISHED = [
    ("dqn-nature", "dqn", 0.95, 0.01, 0.0, True, 2.5e-4, None),
    ("dqn-dopamine", "tensorflow1", 0.95, 1e-5, 0.0, True, 2.5e-4, None),
    ("dqn-minatar", "torch", 0.95, 0.01, 0.95, True, 2.5e-4, None),
    ("a3c", "a3c", 0.99, 0.1, 0.0, False, 7e-4, 40.0),
    ("a2c-baselines", "tensorflow1", 0.99, 1e-5, 0.0, False, 7e-4, 0.5),
    ("a2c-sb3", "torch", 0.99, 1e-5, 0.0, False, 7e-4, 0.5),
    ("impala-tf", "tensorflow1", 0.99, 0.1, 0.0, False, 4.8e-4, None),
    ("impala-torchbeast", "torch", 0.99, 0.01, 0.0, False, 4.8e-4, 40.0),
    ("pymarl", "torch", 0.99, 1e-5, 0.0, False, 5e-4, 10.0),
    ("efficientnet-tf", "tensorflow1", 0.9, 1e-3, 0.9, False, 0.016 * 2048 / 256, None),
    ("efficientnet-timm", "timm", 0.9, 1e-3, 0.9, False, 0.048, None),
    ("mobilenetv3-timm", "timm", 0.9, 1e-3, 0.9, False, 0.064, None),
    ("mobilenetv3-torchvision", "torch", 0.9, 0.0316, 0.9, False, 0.064, None),
    ("inception-v3", "tensorflow1", 0.9, 1.0, 0.9, False, 0.1, None),
    ("wgan", "torch", 0.99, 1e-8, 0.0, False, 5e-5, None),
    ("dpo", "torch", 0.99, 1e-8, 0.0, False, 5e-7, 10.0),
    ("graves-2013", "graves2013", 0.95, 1e-4, 0.9, True, 1e-4, None),
    ("keras-default", "keras3", 0.9, 1e-7, 0.0, False, 1e-3, None),
]


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda line: line[0])
def test_a_recipe_has_its_published_numbers(published):
    name, dialect, rho, eps, momentum, centered, lr, max_norm = published
    row = recipes.get(name)
    rule = row.rule
    assert (row.dialect, rule.rho, rule.eps, rule.momentum, rule.centered) == (dialect, rho, eps, momentum, centered)
    assert row.lr == pytest.approx(lr, rel=1e-15)
    assert row.max_norm == max_norm


def test_the_recipes_are_those_that_were_published():
    assert set(recipes.names()) == {line[0] for line in PUBLISHED}
    assert len(recipes.all()) == len(PUBLISHED)


@pytest.mark.parametrize("row", recipes.all(), ids=lambda row: row.name)
def test_a_recipes_rule_is_one_that_its_host_can_be_set_to(row):
    host = dialects.get(row.dialect)
    changes = {switch: theirs for switch, (_, theirs) in host.rule.difference(row.rule).items()}
    assert host.resolve(**changes) == row.rule
    # The same from the numbers alone: what momentum and weight decay bring along is the host's.
    numbers = {switch: value for switch, value in changes.items() if switch not in ("buffer", "weight_decay_mode")}
    assert host.resolve(**numbers) == row.rule


@pytest.mark.parametrize("row", recipes.all(), ids=lambda row: row.name)
def test_a_recipe_names_its_source(row):
    assert row.title
    assert "/" in row.source or "arXiv" in row.source


@pytest.mark.parametrize("name", ["efficientnet-timm", "mobilenetv3-timm", "mobilenetv3-torchvision"])
def test_weight_decay_goes_through_the_gradient(name):
    rule = recipes.get(name).rule
    assert (rule.weight_decay, rule.weight_decay_mode) == (1e-5, "l2")


def test_names_and_aliases_are_unique_and_found_in_any_case():
    keys = [key for row in recipes.all() for key in (row.name, *row.aliases)]
    assert len(keys) == len(set(keys))
    for row in recipes.all():
        for key in (row.name, *row.aliases):
            assert recipes.recipe(key.upper().replace("-", "_")) is row


@pytest.mark.parametrize(
    ("wrong", "near"), [("dqn-natur", "dqn-nature"), ("efficentnet", "efficientnet"), ("a2c_sb", "a2c-sb3")]
)
def test_an_unknown_recipe_suggests_the_nearest(wrong, near):
    with pytest.raises(RuleError, match=f"unknown recipe '{wrong}', did you mean .*'{near}'"):
        recipes.get(wrong)


def test_a_name_near_to_nothing_lists_the_names():
    with pytest.raises(RuleError, match=r"expected one of dqn-nature, .*, keras-default$"):
        recipes.get("0000")


def test_a_name_that_is_no_string_is_refused():
    with pytest.raises(RuleError, match="expected a name"):
        recipes.get(None)


def test_a_recipe_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipes.get("wgan").lr = 1.0
