"""Run the checks of rmsprop.doctor.keras on the backend of KERAS_BACKEND; the argument is an empty folder."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

import rmsprop.keras  # noqa: E402
from rmsprop.doctor import read  # noqa: E402
from rmsprop.doctor.keras import Watch  # noqa: E402
from rmsprop.doctor.measure import choose_grid  # noqa: E402
from rmsprop.errors import InputError, InputTypeError, RMSpropWarning  # noqa: E402

warnings.simplefilter("error", RMSpropWarning)
FOLDER = Path(sys.argv[1])
BACKEND = keras.backend.backend()
KerasRMSprop = keras.optimizers.RMSprop


def fit(optimizer, every=5, to=None, watch=None, width=8, epochs=3, model=None, **options):
    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 6)).astype("float32")
    y = (x @ rng.standard_normal((6, 1)) + 0.3 * rng.standard_normal((64, 1))).astype("float32")
    if model is None:
        model = keras.Sequential([keras.layers.Dense(width, activation="tanh"), keras.layers.Dense(1)])
        model.compile(optimizer=optimizer, loss="mse", **options)
    watch = watch or Watch(every=every, to=to, budget=None, tensorboard=False)
    model.fit(x, y, batch_size=8, epochs=epochs, verbose=0, callbacks=[watch])
    return watch, model


def kinds_of(watch):
    return {finding.kind for finding in watch.findings}


def steps_of(watch):
    return {sample.step for sample in watch.samples.values()}


def check_healthy_trainings():
    for make, options in (
        (KerasRMSprop, {}),
        (KerasRMSprop, {"momentum": 0.9, "centered": True}),
        (rmsprop.keras.RMSprop, {"centered": True}),
    ):
        watch, _ = fit(make(1e-3, **options))
        assert watch.findings == [], watch.findings
        assert (len(watch.samples), steps_of(watch)) == (4, {20})
        kernel = next(x for name, x in watch.samples.items() if name.endswith("kernel") and x.shape == (6, 8))
        assert kernel.rows == 8
        assert 1e-4 < kernel.update_to_weight < 1e-1
        assert 0.01 < kernel.decoupling < 100


def check_findings():
    watch, _ = fit(KerasRMSprop(0.01, rho=0.999))
    assert "start" in kinds_of(watch)
    # TensorFlow builds the optimizer inside the first step, so that there is nothing to compare with.
    assert ("measured at step 1: 31." in watch.findings[0].words) == (BACKEND != "tensorflow"), watch.findings[0]
    watch, _ = fit(KerasRMSprop(1e-3, epsilon=1e3))
    assert kinds_of(watch) == {"eps"}, watch.findings


def check_runs():
    def steps(run):
        return sorted({sample.step for sample in read(FOLDER, run=run)})

    watch, model = fit(KerasRMSprop(1e-3), to=FOLDER)
    assert steps(1) == [1, 5, 10, 15, 20]
    fit(None, watch=watch, model=model, epochs=2)  # the same model continues
    assert steps(1) == [1, 5, 10, 15, 20, 25, 30, 35, 40]
    fit(KerasRMSprop(1e-3), watch=watch, width=5)  # another one is a run of its own
    assert (steps(1)[-1], steps(2)) == (40, [1, 5, 10, 15, 20])
    assert {sample.shape for sample in watch.samples.values()} == {(6, 5), (5,), (5, 1), (1,)}


def check_joint_steps():
    if BACKEND == "torch":  # which has none
        return
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logging.getLogger("rmsprop.doctor").addHandler(handler)
    watch, _ = fit(KerasRMSprop(1e-3, epsilon=1e3), every=1, steps_per_execution=4)
    messages = [record.getMessage() for record in records if "steps_per_execution" in record.getMessage()]
    assert len(messages) == 1, messages
    assert messages[0].startswith("4 steps make one call"), messages
    assert (steps_of(watch), kinds_of(watch)) == ({24}, {"eps"})


def check_accumulation():
    watch, _ = fit(KerasRMSprop(1e-3, gradient_accumulation_steps=4), every=6)
    assert (steps_of(watch), watch.findings) == ({6}, [])


def check_large_variables():
    rng = np.random.default_rng(0)
    model = keras.Sequential([keras.layers.Dense(80, name="large")])
    model.compile(optimizer=KerasRMSprop(1e-3), loss="mse")
    watch = Watch(budget=None)
    model.fit(rng.standard_normal((8, 90)), rng.standard_normal((8, 80)), verbose=0, callbacks=[watch])
    (name,) = (name for name in watch.samples if name.endswith("kernel"))
    grid = choose_grid((90, 80), name)
    squares = np.asarray(keras.ops.convert_to_numpy(model.optimizer._velocities[0]))
    expected = np.sqrt(grid.take(squares).mean(dtype=float))
    assert abs(watch.samples[name].root_mean_sq / expected - 1) < 1e-6
    assert watch.samples[name].rows == 64


def check_errors():
    watch = Watch()
    watch.set_model(keras.Sequential([keras.layers.Dense(1)]))
    for call, error, message in (
        (watch.on_train_begin, InputError, "model: not compiled"),
        (lambda: fit("adam"), InputTypeError, "Adam, expected keras.optimizers.RMSprop"),
    ):
        with pytest.raises(error, match=message):
            call()


def check_advice_at_construction():
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logging.getLogger("rmsprop").addHandler(handler)
    for rho in (0.999, 0.999, 0.9):
        rmsprop.keras.RMSprop(0.01, rho=rho)
    logging.getLogger("rmsprop").removeHandler(handler)
    (record,) = records
    assert "a first step of 31.6 x lr" in record.getMessage()
    assert record.pathname == __file__


if __name__ == "__main__":
    for check in [check for name, check in list(globals().items()) if name.startswith("check_")]:
        check()
        print(check.__name__, flush=True)
