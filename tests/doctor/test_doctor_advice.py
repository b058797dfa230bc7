"""Harmful settings are logged once, where an optimizer is built; defaults and recipes never."""

from __future__ import annotations

import logging
import math
import os
import re
import subprocess
import sys
import warnings

import pytest

from rmsprop import Rule, _advice, dialects, doctor, recipes

torch = pytest.importorskip("torch", reason="torch is not installed")

from rmsprop.torch import RMSprop  # noqa: E402

LONG_START = {"lr": 0.01, "alpha": 0.999}


@pytest.fixture(autouse=True)
def forget_advice(monkeypatch):
    """As in a new process."""
    monkeypatch.setattr(_advice, "_issued", set())


def weights(value=1.0, dtype=None):
    return [torch.nn.Parameter(torch.full((8,), value, dtype=dtype))]


@pytest.mark.parametrize("name", recipes.names())
def test_recipes_are_not_logged(name, caplog):
    row = recipes.get(name)
    RMSprop(weights(), lr=row.lr, dialect=row.rule)
    assert not caplog.records
    assert _advice.advise(row.rule) is None  # at any lr


@pytest.mark.parametrize("name", dialects.names())
def test_defaults_of_dialects_are_not_logged(name, caplog):
    RMSprop(weights(), dialect=name)
    assert not caplog.records
    assert _advice.advise(dialects.get(name).resolve()) is None


BF16 = {"dtype": torch.bfloat16}


@pytest.mark.parametrize(
    ("kind", "options"),
    [({"dtype": dtype}, options)
     for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16)
     for options in ({}, {"momentum": 0.9}, {"centered": True})]
    + [
        ({}, {"lr": 0.01, "dialect": Rule(rho=0.999, init="ones")}),  # as advised
        ({}, {"lr": 0.01, "dialect": Rule(rho=0.999, bias_correction=True)}),
        ({}, {"lr": 1e-4, "alpha": 0.999}),  # a long start at a tiny lr
        (BF16, {"lr": 1e-4, "param_rounding": "stochastic"}),
        (BF16, {"lr": 1e-4, "param_rounding": "compensated"}),
        ({**BF16, "value": 0.001}, {"lr": 1e-4}),
        ({**BF16, "value": 0.0}, {"lr": 1e-9}),
        ({**BF16, "value": math.nan}, {"lr": 1e-9}),
        ({"dtype": torch.float32}, {"lr": 1e-9}),
    ],
    ids=str,
)  # fmt: skip
def test_harmless_settings_are_not_logged(kind, options, caplog):
    RMSprop(weights(**kind), **options)
    assert not caplog.records


def test_a_long_start_is_logged_once_at_the_line_of_the_user_where_a_warning_is_an_error(caplog):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RMSprop(weights(), **LONG_START)
    assert (caplog.records[0].name, caplog.records[0].levelno, caplog.records[0].pathname) == (
        "rmsprop",
        logging.WARNING,
        __file__,
    )
    assert caplog.records[0].getMessage() == (
        "a first step of 31.6 x lr, as mean_sq starts at 0 with rho 0.999: start mean_sq at 1 (dialect tensorflow1), "
        "or bias_correction=True, or warm lr up over 1000 steps (RMSPROP_QUIET=1 silences this)"
    )
    RMSprop(weights(), **LONG_START)
    assert len(caplog.records) == 1
    RMSprop(weights(), lr=0.01, momentum=0.937)  # another setting
    assert "up to 38.9 x lr (at step 18)" in caplog.records[1].getMessage()


@pytest.mark.parametrize("lr", [1e-4, 1e-5])
def test_an_lr_that_bfloat16_rounds_away_is_logged(lr, caplog):
    RMSprop(weights(dtype=torch.bfloat16), lr=lr)
    assert re.search(f"lr {lr:g} is lost in bfloat16: .* is 0.00391", caplog.records[0].getMessage())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_a_unit_in_the_last_place_is_what_torch_rounds_away(dtype):
    kind = getattr(torch, dtype)
    for x in torch.rand(50, generator=torch.Generator().manual_seed(0)).mul(4).add(0.01).to(kind).double():
        advice = _advice.advise_rounding(x.reshape(1).numpy(), dtype, 1e-9)
        half = 1e-9 / advice.value
        assert (x + 0.99 * half).to(kind) == x
        assert (x + 1.01 * half).to(kind) != x


def test_the_predicted_start_is_that_of_real_steps():
    rule = Rule(rho=0.99, eps=0.0, eps_mode="outside", buffer="unit", momentum=0.937)
    param = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = RMSprop([param], lr=1e-9, dialect=rule)
    lengths = []
    for _ in range(40):
        before = param.item()
        param.grad = torch.ones_like(param)
        optimizer.step()
        lengths.append((before - param.item()) / 1e-9)
    start = _advice.measure_start(rule)
    assert (start.first, start.largest) == pytest.approx((lengths[0], max(lengths)), rel=1e-6)
    assert start.at == lengths.index(max(lengths)) + 1
    assert start.steady == pytest.approx(1 / (1 - 0.937))
    assert _advice.measure_start(Rule(rho=0.9, eps=0.0)).first == pytest.approx(1 / math.sqrt(1 - 0.9))


def test_quiet_and_a_level_silence_the_advice(caplog):
    doctor.quiet()
    try:
        RMSprop(weights(), **LONG_START)
    finally:
        doctor.quiet(False)
    with _advice.suppress_warnings():
        RMSprop(weights(), **LONG_START)
    with caplog.at_level("ERROR", logger="rmsprop"):
        RMSprop(weights(), lr=0.02, alpha=0.9999)
    assert not caplog.records
    RMSprop(weights(), **LONG_START)
    assert caplog.records


@pytest.mark.parametrize(("value", "count"), [("1", 0), ("0", 1), ("", 1)])
def test_the_environment_silences_the_advice(value, count):
    code = "from rmsprop import Rule, _advice; _advice.log(_advice.advise(Rule(rho=0.999), 1.0))"
    environment = {**os.environ, "RMSPROP_QUIET": value}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stderr.count("a first step of 31.6 x lr") == count


def test_jax_logs_too(caplog):
    pytest.importorskip("optax", reason="optax is not installed")
    import rmsprop.jax

    rmsprop.jax.rmsprop(0.01, decay=0.999)
    assert "31.6 x lr" in caplog.records[0].getMessage()
    assert caplog.records[0].pathname == __file__
    rmsprop.jax.rmsprop(0.01)
    rmsprop.jax.rmsprop(lambda step: 0.01, decay=0.9999)  # a schedule, which may warm up
    assert len(caplog.records) == 1
