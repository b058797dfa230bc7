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
from rmsprop.doctor.jax import examine, take_samples as look  # noqa: E402


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


def test_parameters_that_a_mask_leaves_to_others_are_left_out():
    labels = {"net": "own", "b": "other"}
    for tx, expected in (
        (optax.masked(optax.rmsprop(1e-3), {"net": {"kernel": True}, "b": False}), ["net/kernel"]),
        (optax.masked(optax.rmsprop(1e-3), {"net": True, "b": False}), ["net/kernel"]),  # a whole branch
        (optax.multi_transform({"own": optax.rmsprop(1e-3), "other": optax.adam(1e-3)}, labels), ["net/kernel"]),
        (optax.multi_transform({"own": optax.rmsprop(1e-3), "other": optax.set_to_zero()}, labels), ["net/kernel"]),
    ):
        args, options = run(tx)
        assert [one.tensor for one in look(*args, **options)] == expected
        assert examine(*args, **options) == []


def test_each_label_has_the_statistics_of_its_own_optimizer():
    labels = {"net": "first", "b": "second"}
    tx = optax.multi_transform({"first": optax.rmsprop(1e-3), "second": rmsprop.jax.rmsprop(1e-3)}, labels)
    alone, beside = run(optax.rmsprop(1e-3)), run(tx)
    for one, other in zip(look(*alone[0], **alone[1]), look(*beside[0], **beside[1]), strict=True):
        assert one.tensor == other.tensor
        assert one.effective_lr == pytest.approx(other.effective_lr, rel=1e-5)
    tx = optax.multi_transform({"first": optax.rmsprop(1e-3, centered=True), "second": optax.rmsprop(1e-3)}, labels)
    args, options = run(tx)
    assert {one.tensor: one.full_rule.centered for one in look(*args, **options)} == {"net/kernel": True, "b": False}


def test_calls_that_only_collect_gradients_are_no_stall():
    for steps, looks in ((1, 0), (2, 2), (3, 0), (4, 2)):
        args, options = run(optax.MultiSteps(optax.rmsprop(1e-3), 2), steps=steps)
        assert len(look(*args, **options)) == looks
        assert examine(*args, **options) == []


def test_a_nan_in_a_parameter_is_found():
    (params, grads, state), options = run(rmsprop.jax.rmsprop(1e-3))
    params = {**params, "b": params["b"].at[1].set(jnp.nan)}
    (finding,) = examine(params, grads, state, **options)
    assert (finding.kind, finding.tensor, finding.words) == ("nan", "b", "NaN or infinity in the parameter")


def test_arrays_of_another_shape_are_refused_by_name():
    (params, grads, state), options = run(optax.rmsprop(1e-3))
    with pytest.raises(InputError, match=r"grads\['b'\]: shape \(4,\), expected \(3,\) like params"):
        examine(params, {**grads, "b": jnp.ones(4)}, state, **options)
    with pytest.raises(InputError, match=r"updates\['b'\]: shape \(3, 1\), expected \(3,\)"):
        examine(params, grads, state, **{**options, "updates": {**grads, "b": jnp.ones((3, 1))}})
    with pytest.raises(InputError, match=r"state: mean_sq\['b'\] of shape \(7,\), expected shape \(3,\) like params"):
        examine(params, grads, optax.rmsprop(1e-3).init({**params, "b": jnp.ones(7)}), **options)
    with pytest.raises(InputError, match=r"state: mean_sq\['c'\].*, expected the structure of params"):
        examine(params, grads, optax.rmsprop(1e-3).init({**params, "c": jnp.ones(7)}), **options)


# ---- Keras -----------------------------------------------------------------------------------------------------------

KERAS = """
import warnings; warnings.simplefilter("ignore")
import sys, keras, numpy as np, rmsprop.keras
from rmsprop.doctor import read
from rmsprop.doctor.keras import Watch
from rmsprop.errors import InputTypeError, RMSpropWarning
warnings.simplefilter("error", RMSpropWarning)

def fit(optimizer, every=5, epochs=3, to=None, watch=None, width=8, compiled=(), **options):
    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 6)).astype("float32")
    y = (x @ rng.standard_normal((6, 1))).astype("float32") + 0.3 * rng.standard_normal((64, 1)).astype("float32")
    model = keras.Sequential([keras.layers.Dense(width, activation="tanh"), keras.layers.Dense(1)])
    model.compile(optimizer=optimizer, loss="mse", **dict(compiled))
    watch = watch or Watch(every=every, to=to, budget=None, tensorboard=False)
    model.fit(x, y, batch_size=8, epochs=epochs, verbose=0, callbacks=[watch], **options)
    return watch, model

for make, options in (
    (keras.optimizers.RMSprop, {}), (keras.optimizers.RMSprop, {"momentum": 0.9, "centered": True}),
    (rmsprop.keras.RMSprop, {"centered": True}),
):
    watch, model = fit(make(1e-3, **options))
    assert watch.findings == [], [str(f) for f in watch.findings]
    assert len(watch.samples) == 4, watch.samples
    assert {look.step for look in watch.samples.values()} == {20}, watch.samples
    kernel = next(look for name, look in watch.samples.items() if name.endswith("kernel") and look.shape == (6, 8))
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

def seen(run):
    return sorted({look.step for look in read(sys.argv[1] + "/again", run=run)})

watch, model = fit(keras.optimizers.RMSprop(1e-3), to=sys.argv[1] + "/again")
x, y = np.ones((64, 6)), np.ones((64, 1))
model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[watch])  # goes on
assert seen(1) == [1, 5, 10, 15, 20, 25, 30, 35, 40], seen(1)
fit(keras.optimizers.RMSprop(1e-3), watch=watch, width=5)  # another model, other shapes
assert seen(1) == [1, 5, 10, 15, 20, 25, 30, 35, 40], seen(1)
assert seen(2) == [1, 5, 10, 15, 20], seen(2)
assert {look.shape for look in watch.samples.values()} == {(6, 5), (5,), (5, 1), (1,)}, watch.samples
print("again")

if keras.backend.backend() != "torch":  # which has no such calls
    told = []
    watch = Watch(every=1, budget=None)
    watch._watching.say = told.append
    fit(keras.optimizers.RMSprop(1e-3, epsilon=1e3), watch=watch, compiled={"steps_per_execution": 4})
    assert len(told) == 1, told
    assert "4 steps make one call (steps_per_execution)" in told[0], told
    assert {look.step for look in watch.samples.values()} == {24}, watch.samples
    assert {f.kind for f in watch.findings} == {"eps"}, [str(f) for f in watch.findings]
print("executions")

watch, _ = fit(keras.optimizers.RMSprop(1e-3, gradient_accumulation_steps=4), every=6)
assert {look.step for look in watch.samples.values()} == {6}, watch.samples
assert watch.findings == [], [str(f) for f in watch.findings]
print("accumulation")

from rmsprop.doctor.grid import choose_grid as grid
for path, shape in (("a/kernel", (90, 80)), ("a/kernel", (3, 4, 70, 60)), ("a/table", (300, 40)), ("a/bias", (9000,))):
    variable = keras.Variable(np.random.default_rng(0).standard_normal(shape).astype("float32"))
    variable._path = path
    host, last = np.array(variable), path.endswith("kernel")
    whole = np.moveaxis(host, -1, 0) if last else host
    taken = Watch()._taken(variable, variable)
    assert taken.size < host.size and np.array_equal(taken, grid(whole.shape).take(whole)), shape
print("gathered")

from rmsprop.errors import InputError
watch = Watch()
watch.set_model(keras.Sequential([keras.layers.Dense(1)]))
try:
    watch.on_train_begin()
except InputError as error:
    assert "model: not compiled" in str(error), error
    print("uncompiled")

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    rmsprop.keras.RMSprop(0.01, rho=0.999)
    rmsprop.keras.RMSprop(0.01, rho=0.999)
    rmsprop.keras.RMSprop(0.01)
(one,) = [each for each in caught if each.category is RMSpropWarning]
assert "a first step of 31.6 x lr" in str(one.message), one.message
assert one.filename == "<string>", one.filename
print("warned")

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
    told = ["start", "eps", "again", "executions", "accumulation", "gathered", "uncompiled", "warned", "refused"]
    assert done.stdout.split("\n")[-len(told) - 1 : -1] == told
