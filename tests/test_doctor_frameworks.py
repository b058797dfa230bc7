"""The doctor for JAX and Keras: the same findings there."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import numpy as np
import pytest

from rmsprop.doctor import History
from rmsprop.errors import InputError, StateError

# ---- JAX -------------------------------------------------------------------------------------------------------------

optax = pytest.importorskip("optax", reason="optax is not installed")

import jax.numpy as jnp  # noqa: E402

import rmsprop.jax  # noqa: E402
from rmsprop import Rule, doctor  # noqa: E402
from rmsprop.doctor.jax import examine, look  # noqa: E402


@pytest.fixture(autouse=True)
def quiet():
    """The long starts here are what the doctor is to find."""
    doctor.quiet()
    yield
    doctor.quiet(False)


def tree(step):
    rng = np.random.default_rng(step)
    return {
        "net": {"kernel": jnp.asarray(rng.standard_normal((6, 5)), "float32")},
        "b": jnp.asarray(rng.standard_normal(3)),
    }


def run(tx, steps=3, grads=tree, **options):
    """Step, and return what `look` is to be called with."""
    params = tree(1000)
    state = tx.init(params)
    for step in range(steps):
        before, grad = params, grads(step)
        updates, state = tx.update(grad, state, params)
        params = optax.apply_updates(params, updates)
    return (before, grad, state), {"lr": 1e-3, "updates": updates, **options}


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("bias_correction", [False, True])
def test_optax_and_this_library_look_alike(centered, bias_correction):
    options = {"centered": centered, "bias_correction": bias_correction, "decay": 0.95}
    rule = Rule(rho=0.95, centered=centered, bias_correction=bias_correction)
    theirs, ours = (
        look(*args, **given)
        for args, given in (
            run(optax.rmsprop(1e-3, **options), rule=rule, step=3),
            run(rmsprop.jax.rmsprop(1e-3, **options), rule=rule),
        )
    )
    assert [one.tensor for one in ours] == ["b", "net/kernel"]
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.step == other.step == 3
        assert mine.effective_lr == pytest.approx(other.effective_lr, rel=1e-3)
        assert mine.decoupling == pytest.approx(other.decoupling, rel=1e-2)
        if not (centered and bias_correction):  # optax's first step divides by 0 there
            assert mine.update_to_weight == pytest.approx(other.update_to_weight, rel=1e-3)


def test_a_state_is_found_inside_chains_and_injected_numbers():
    tx = optax.inject_hyperparams(lambda lr: optax.chain(optax.clip(1.0), optax.rmsprop(lr)))(lr=1e-3)
    args, options = run(tx)
    assert examine(*args, **options) == []


def test_a_healthy_state_gives_nothing_and_a_long_start_is_found():
    args, options = run(rmsprop.jax.rmsprop(1e-3))
    assert examine(*args, **options) == []
    rule = Rule(rho=0.999)
    args, options = run(rmsprop.jax.rmsprop(1e-3, dialect=rule), steps=1, rule=rule)
    assert {finding.kind for finding in examine(*args, **options)} == {"start"}


def test_bfloat16_that_stands_still_is_found():
    tx = rmsprop.jax.rmsprop(1e-4)
    params, grad = {"w": jnp.ones((4, 4), "bfloat16")}, {"w": tree(0)["net"]["kernel"][:4, :4].astype("bfloat16")}
    updates, state = tx.update(grad, tx.init(params))
    (finding,) = examine(params, grad, state, lr=1e-4, updates=updates)
    assert finding.kind == "stalled"


def test_units_of_a_kernel_are_its_columns():
    alive = jnp.asarray([1.0, 1.0, 0.0, 0.0, 0.0])

    def grads(step):
        drawn = tree(step)
        return {"net": {"kernel": drawn["net"]["kernel"] * alive}, "b": drawn["b"]}

    args, options = run(rmsprop.jax.rmsprop(1e-3), steps=101, grads=grads)
    (finding,) = examine(*args, **options)
    assert (finding.kind, finding.tensor, finding.value) == ("dead", "net/kernel", 0.6)


def test_a_history_returns_what_is_new():
    rule = Rule(rho=0.999)
    args, options = run(rmsprop.jax.rmsprop(1e-3, dialect=rule), steps=1, rule=rule, history=History())
    assert len(examine(*args, **options)) == 2
    assert examine(*args, **options) == []


def test_other_optimizers_and_other_trees_are_refused():
    (params, grads, state), options = run(optax.adam(1e-3))
    with pytest.raises(StateError, match="ScaleByAdamState, expected the state of"):
        examine(params, grads, state, **options)
    (params, grads, state), options = run(optax.rmsprop(1e-3))
    with pytest.raises(InputError, match="grads: another structure"):
        examine(params, {"b": grads["b"]}, state, **options)
    with pytest.raises(StateError, match="not centered, but the rule"):
        examine(params, grads, state, rule=Rule(centered=True), **options)


def test_without_lr_and_updates_nothing_is_said_of_the_step():
    args, _ = run(rmsprop.jax.rmsprop(1e-3))
    (first, _) = look(*args)
    assert (first.lr, first.step_over_lr, first.stalled_share) == (None, None, None)
    assert math.isfinite(first.effective_lr[2])


# ---- Keras -----------------------------------------------------------------------------------------------------------

KERAS = """
import warnings; warnings.simplefilter("ignore")
import sys, keras, numpy as np, rmsprop.keras
from rmsprop.doctor import read
from rmsprop.doctor.keras import Watch
from rmsprop.errors import InputTypeError, RMSpropWarning
warnings.simplefilter("error", RMSpropWarning)

def fit(optimizer, every=5, epochs=3, to=None, **options):
    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 6)).astype("float32")
    y = (x @ rng.standard_normal((6, 1))).astype("float32") + 0.3 * rng.standard_normal((64, 1)).astype("float32")
    model = keras.Sequential([keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(1)])
    model.compile(optimizer=optimizer, loss="mse")
    watch = Watch(every=every, to=to, budget=None, tensorboard=False)
    model.fit(x, y, batch_size=8, epochs=epochs, verbose=0, callbacks=[watch], **options)
    return watch, model

for make, options in (
    (keras.optimizers.RMSprop, {}), (keras.optimizers.RMSprop, {"momentum": 0.9, "centered": True}),
    (rmsprop.keras.RMSprop, {"centered": True}),
):
    watch, model = fit(make(1e-3, **options))
    assert watch.findings == [], [str(f) for f in watch.findings]
    assert len(watch.looks) == 4, watch.looks
    assert {look.step for look in watch.looks.values()} == {20}, watch.looks
    kernel = next(look for name, look in watch.looks.items() if name.endswith("kernel") and look.shape == (6, 8))
    assert kernel.rows == 8
    assert 1e-4 < kernel.update_to_weight < 1e-1
    assert 0.01 < kernel.decoupling < 100

watch, _ = fit(keras.optimizers.RMSprop(0.01, rho=0.999), to=sys.argv[1])
assert {f.kind for f in watch.findings} >= {"start"}, watch.findings
finding = watch.findings[0]
# TensorFlow builds the optimizer inside the first step, so that nothing is there to compare with.
assert ("measured at step 1: 31." in finding.words) == (keras.backend.backend() != "tensorflow"), finding.words
assert sorted({look.step for look in read(sys.argv[1])}) == [1, 5, 10, 15, 20]
print("start")

watch, _ = fit(keras.optimizers.RMSprop(1e-3, epsilon=1e3))
assert {f.kind for f in watch.findings} == {"eps"}, [str(f) for f in watch.findings]
print("eps")

try:
    fit("adam")
except InputTypeError as error:
    assert "Adam, expected keras.optimizers.RMSprop" in str(error), error
    print("refused")
"""


@pytest.mark.parametrize("backend", ["torch", "jax", "tensorflow"])
def test_the_callback_finds_on_every_backend_of_keras(backend, tmp_path):
    for package in ("keras", backend):
        pytest.importorskip(package, reason=f"{package} is not installed")
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", KERAS, str(tmp_path)], capture_output=True, text=True, env=environment, timeout=250
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split("\n")[-4:-1] == ["start", "eps", "refused"]
