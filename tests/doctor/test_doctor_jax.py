"""The doctor for JAX: the states of optax and of this library, alone, in chains and masked."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rmsprop import Rule
from rmsprop.doctor import History
from rmsprop.errors import InputError, StateError

optax = pytest.importorskip("optax", reason="optax is not installed")

import jax.numpy as jnp  # noqa: E402

import rmsprop.jax  # noqa: E402
from rmsprop.doctor.jax import examine, take_samples  # noqa: E402

pytestmark = pytest.mark.usefixtures("quiet")

LONG_START = Rule(rho=0.999)


def make_tree(step, columns=slice(None)):
    rng = np.random.default_rng(step)
    kernel = rng.standard_normal((6, 5))
    kernel[:, columns.start or 5 :] = 0
    return {"net": {"kernel": jnp.asarray(kernel, "float32")}, "b": jnp.asarray(rng.standard_normal(3))}


def run(tx, steps=3, make_grads=make_tree, **options):
    """Step, and return the arguments of `take_samples`."""
    params = make_tree(1000)
    state = tx.init(params)
    for step in range(steps):
        before, grads = params, make_grads(step)
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return (before, grads, state), {"lr": 1e-3, "updates": updates, **options}


def take(*arguments, **options):
    args, given = run(*arguments, **options)
    return {sample.tensor: sample for sample in take_samples(*args, **given)}


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("bias_correction", [False, True])
def test_samples_of_optax_and_of_this_library_agree(centered, bias_correction):
    options = {"centered": centered, "bias_correction": bias_correction, "decay": 0.95}
    rule = Rule(rho=0.95, centered=centered, bias_correction=bias_correction)
    upstream = take(optax.rmsprop(1e-3, **options), rule=rule, step=3)
    own = take(rmsprop.jax.rmsprop(1e-3, **options), rule=rule)
    assert set(own) == set(upstream) == {"b", "net/kernel"}
    for name, sample in own.items():
        expected = upstream[name]
        assert sample.step == expected.step == 3
        assert sample.effective_lr == pytest.approx(expected.effective_lr, rel=1e-3)
        assert sample.decoupling == pytest.approx(expected.decoupling, rel=1e-2)
        if not (centered and bias_correction):  # optax's first step divides by 0 there
            assert sample.update_to_weight == pytest.approx(expected.update_to_weight, rel=1e-3)


@pytest.mark.parametrize(
    "tx",
    [
        rmsprop.jax.rmsprop(1e-3),
        optax.inject_hyperparams(lambda lr: optax.chain(optax.clip(1.0), optax.rmsprop(lr)))(lr=1e-3),
    ],
    ids=["alone", "in a chain with injected numbers"],
)
def test_a_healthy_state_has_no_finding(tx):
    args, options = run(tx)
    assert examine(*args, **options) == []


@pytest.mark.parametrize("maximize", [False, True])
def test_weight_decay_and_maximize_are_part_of_the_gradient(maximize):
    # With rho 0, mean_sq is the square of the gradient that the step used.
    rule = Rule(rho=0.0, weight_decay=0.5, weight_decay_mode="l2", maximize=maximize)
    for sample in take(rmsprop.jax.rmsprop(1e-3, dialect=rule), rule=rule).values():
        assert sample.grad_rms == pytest.approx(sample.root_mean_sq, rel=1e-5)


def test_a_long_start_is_found_and_a_history_returns_only_what_is_new():
    args, options = run(rmsprop.jax.rmsprop(1e-3, dialect=LONG_START), steps=1, rule=LONG_START, history=History())
    assert [finding.kind for finding in examine(*args, **options)] == ["start", "start"]
    assert examine(*args, **options) == []


def test_bfloat16_weights_that_do_not_change_are_found():
    tx = rmsprop.jax.rmsprop(1e-4)
    params, grads = {"w": jnp.ones((4, 4), "bfloat16")}, {"w": jnp.full((4, 4), 0.3, "bfloat16")}
    updates, state = tx.update(grads, tx.init(params))
    assert [finding.kind for finding in examine(params, grads, state, lr=1e-4, updates=updates)] == ["stalled"]


def test_the_units_of_a_kernel_are_its_columns():
    args, options = run(rmsprop.jax.rmsprop(1e-3), steps=101, make_grads=lambda step: make_tree(step, slice(2, 5)))
    (finding,) = examine(*args, **options)
    assert (finding.kind, finding.tensor, finding.value) == ("dead", "net/kernel", 0.6)


def test_without_lr_and_updates_the_step_is_not_judged():
    args, _ = run(rmsprop.jax.rmsprop(1e-3))
    sample = take_samples(*args)[0]
    assert (sample.lr, sample.step_over_lr, sample.stalled_share) == (None, None, None)
    assert math.isfinite(sample.effective_lr[2])


LABELS = {"net": "own", "b": "other"}


@pytest.mark.parametrize(
    "tx",
    [
        optax.masked(optax.rmsprop(1e-3), {"net": {"kernel": True}, "b": False}),
        optax.masked(optax.rmsprop(1e-3), {"net": True, "b": False}),  # a whole branch
        optax.multi_transform({"own": optax.rmsprop(1e-3), "other": optax.adam(1e-3)}, LABELS),
        optax.multi_transform({"own": optax.rmsprop(1e-3), "other": optax.set_to_zero()}, LABELS),
    ],
)
def test_parameters_of_other_optimizers_are_left_out(tx):
    assert set(take(tx)) == {"net/kernel"}


def test_each_label_has_the_statistics_of_its_own_optimizer():
    own = {"own": optax.rmsprop(1e-3, centered=True), "other": rmsprop.jax.rmsprop(1e-3)}
    samples = take(optax.multi_transform(own, LABELS))
    assert samples["net/kernel"].effective_lr == take(own["own"])["net/kernel"].effective_lr
    assert samples["b"].effective_lr == take(own["other"])["b"].effective_lr
    assert {name: sample.full_rule.centered for name, sample in samples.items()} == {"net/kernel": True, "b": False}


@pytest.mark.slow
def test_calls_that_only_accumulate_gradients_give_no_sample():
    counts = [len(take(optax.MultiSteps(optax.rmsprop(1e-3), 2), steps=steps)) for steps in (1, 2, 3, 4)]
    assert counts == [0, 2, 0, 2]


def test_a_nan_in_a_parameter_is_found():
    (params, grads, state), options = run(rmsprop.jax.rmsprop(1e-3))
    params = {**params, "b": params["b"].at[1].set(jnp.nan)}
    (finding,) = examine(params, grads, state, **options)
    assert (finding.kind, finding.tensor, finding.words) == ("nan", "b", "NaN or infinity in the parameter")


def with_b(tree, shape):
    return {**tree, "b": jnp.ones(shape)}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda p: {"state": optax.adam(1e-3).init(p)}, StateError, "ScaleByAdamState, expected the state of"),
        (lambda p: {"rule": Rule(centered=True)}, StateError, "not centered, but the rule"),
        (lambda p: {"grads": {"b": p["b"]}}, InputError, "grads: another structure"),
        (lambda p: {"grads": with_b(p, 4)}, InputError, r"grads\['b'\]: shape \(4,\), expected \(3,\) like params"),
        (lambda p: {"updates": with_b(p, (3, 1))}, InputError, r"updates\['b'\]: shape \(3, 1\), expected \(3,\)"),
        (lambda p: {"state": optax.rmsprop(1.0).init(with_b(p, 7))}, InputError,
         r"state: mean_sq\['b'\] of shape \(7,\), expected shape \(3,\) like params"),
        (lambda p: {"state": optax.rmsprop(1.0).init({**p, "c": jnp.ones(7)})}, InputError,
         r"state: mean_sq\['c'\].*, expected the structure of params"),
    ],
)  # fmt: skip
def test_another_state_or_tree_raises(change, error, message):
    (params, grads, state), options = run(optax.rmsprop(1e-3))
    with pytest.raises(error, match=message):
        examine(**({"params": params, "grads": grads, "state": state} | options | change(params)))
