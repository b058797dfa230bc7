"""Settings that are known to do harm are warned of once, where an optimizer is built; defaults and recipes never."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

from rmsprop import Rule, _advice, dialects, doctor, recipes
from rmsprop.errors import RMSpropWarning

torch = pytest.importorskip("torch", reason="torch is not installed")

from rmsprop.torch import RMSprop  # noqa: E402


@pytest.fixture(autouse=True)
def unsaid(monkeypatch):
    """As in a new process."""
    monkeypatch.setattr(_advice, "_issued", set())


def weights(value=1.0, dtype=None):
    return [torch.nn.Parameter(torch.full((8,), value, dtype=dtype))]


@pytest.mark.parametrize("name", recipes.names())
def test_no_recipe_is_warned_of(name):
    row = recipes.get(name)
    assert _advice.advise(row.rule, row.lr) == ()
    assert _advice.advise(row.rule) == ()  # whatever lr
    RMSprop(weights(), lr=row.lr, dialect=row.rule)


@pytest.mark.parametrize("name", dialects.names())
def test_no_default_of_a_dialect_is_warned_of(name):
    row = dialects.get(name)
    assert _advice.advise(row.resolve()) == ()
    RMSprop(weights(), dialect=name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_the_defaults_of_torch_are_not_warned_of_in_any_dtype(dtype):
    RMSprop(weights(dtype=dtype))
    RMSprop(weights(dtype=dtype), momentum=0.9)
    RMSprop(weights(dtype=dtype), centered=True)


def test_a_long_start_is_warned_of_once_where_the_user_wrote_it():
    with pytest.warns(RMSpropWarning, match=r"a first step of 31.6 x lr, .*dialect tensorflow1") as caught:
        RMSprop(weights(), lr=0.01, alpha=0.999)
    assert caught[0].filename == __file__
    RMSprop(weights(), lr=0.01, alpha=0.999)
    with pytest.warns(RMSpropWarning, match=r"up to 38.9 x lr \(at step 18\)"):  # another setting
        RMSprop(weights(), lr=0.01, momentum=0.937)


def test_what_the_warning_advises_silences_it():
    RMSprop(weights(), lr=0.01, dialect=Rule(rho=0.999, init="ones"))
    RMSprop(weights(), lr=0.01, dialect=Rule(rho=0.999, bias_correction=True))


def test_a_long_start_at_a_tiny_lr_goes_nowhere_and_is_not_warned_of():
    RMSprop(weights(), lr=1e-4, alpha=0.999)


def test_the_start_is_that_of_steps_really_done():
    rule = Rule(rho=0.99, eps=0.0, eps_mode="outside", buffer="unit", momentum=0.937)
    param = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = RMSprop([param], lr=1e-9, dialect=rule)
    lengths = []
    for _ in range(40):
        before = param.item()
        param.grad = torch.ones_like(param)
        optimizer.step()
        lengths.append((before - param.item()) / 1e-9)
    found = _advice.measure_start(rule)
    assert found.first == pytest.approx(lengths[0], rel=1e-6)
    assert found.largest == pytest.approx(max(lengths), rel=1e-6)
    assert found.at == lengths.index(max(lengths)) + 1
    assert found.steady == pytest.approx(1 / (1 - 0.937))


@pytest.mark.parametrize("rho", [0.9, 0.99, 0.999])
def test_the_first_step_is_the_closed_form(rho):
    assert _advice.measure_start(Rule(rho=rho, eps=0.0)).first == pytest.approx(1 / math.sqrt(1 - rho))


@pytest.mark.parametrize("lr", [1e-4, 1e-5])
def test_bfloat16_weights_near_1_with_an_lr_they_cannot_take_are_warned_of(lr):
    with pytest.warns(RMSpropWarning, match=f"lr {lr:g} is lost in bfloat16: .* is 0.00391"):
        RMSprop(weights(dtype=torch.bfloat16), lr=lr)


def test_roundings_that_keep_small_steps_and_small_weights_are_not_warned_of():
    RMSprop(weights(dtype=torch.bfloat16), lr=1e-4, param_rounding="stochastic")
    RMSprop(weights(dtype=torch.bfloat16), lr=1e-4, param_rounding="compensated")
    RMSprop(weights(0.001, dtype=torch.bfloat16), lr=1e-4)
    RMSprop(weights(0.0, dtype=torch.bfloat16), lr=1e-9)  # nothing to compare with
    RMSprop(weights(dtype=torch.float32), lr=1e-9)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_an_ulp_is_what_torch_rounds_away(dtype):
    kind = getattr(torch, dtype)
    x = torch.rand(1000, generator=torch.Generator().manual_seed(0)).mul(4).add(0.01).to(kind)
    half = torch.from_numpy(_advice.half_ulp(x.double().numpy(), dtype))
    exact = x.double()
    assert torch.equal((exact + 0.99 * half).to(kind), x)
    assert not ((exact + 1.01 * half).to(kind) == x).any()


def test_quiet_switches_the_warnings_off_and_on_again():
    doctor.quiet()
    try:
        RMSprop(weights(), lr=0.01, alpha=0.999)
    finally:
        doctor.quiet(False)
    with pytest.warns(RMSpropWarning):
        RMSprop(weights(), lr=0.01, alpha=0.999)


def test_a_filter_of_python_silences_them():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RMSpropWarning)
        RMSprop(weights(), lr=0.01, alpha=0.999)


@pytest.mark.parametrize(("value", "lines"), [("1", 0), ("0", 1), ("", 1)])
def test_the_environment_switches_them_off(value, lines):
    code = "from rmsprop import Rule, _advice; _advice.warn(_advice.advise(Rule(rho=0.999), 1.0))"
    environment = {**os.environ, "RMSPROP_QUIET": value}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stderr.count("RMSpropWarning") == lines


def test_jax_warns_too():
    pytest.importorskip("optax", reason="optax is not installed")
    import rmsprop.jax

    with pytest.warns(RMSpropWarning, match=r"31.6 x lr") as caught:
        rmsprop.jax.rmsprop(0.01, decay=0.999)
    assert caught[0].filename == __file__
    rmsprop.jax.rmsprop(0.01)
    rmsprop.jax.rmsprop(lambda step: 0.01, decay=0.9999)  # a schedule, which may warm up


def test_nothing_is_said_of_weights_that_are_not_finite():
    assert _advice.advise_rounding(np.array([np.nan, np.inf]), "bfloat16", 1e-5) == ()
