"""Checkpoints of Keras 3: `.keras`, `.weights.h5` and `.h5`, whatever the backend."""

from __future__ import annotations

import json
import os
import zipfile

import numpy as np
import pytest

import rmsprop
from checkpointing import (
    END,
    RECORDED,
    STOP,
    TO_NAMES,
    TO_POSITIONS,
    Run,
    assert_same_end,
    continue_in_numpy,
    continue_in_torch,
    load_torch,
    stop_torch,
)
from rmsprop import checkpoints
from rmsprop.errors import FileError, InputError, StateError

torch = pytest.importorskip("torch", reason="torch is not installed")
from rmsprop.torch import RMSprop  # noqa: E402

h5py = pytest.importorskip("h5py", reason="h5py is not installed")

CHOSEN = "KERAS_BACKEND" not in os.environ
if CHOSEN:  # the backend that imports fastest, unless the caller has one
    os.environ["KERAS_BACKEND"] = "torch"
keras = pytest.importorskip("keras", reason="keras is not installed")
if CHOSEN:
    del os.environ["KERAS_BACKEND"]

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file"),
]


def make_schedule():
    return keras.optimizers.schedules.ExponentialDecay(0.01, 2, 0.8)


def make_model(start, optimizer):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
    model.compile(optimizer, keras.losses.MeanSquaredError())
    optimizer.build(model.trainable_variables)
    model.set_weights([start["w"], start["b"]])
    return model


def advance(model, run, first, last):
    for t in range(first, last):
        if not isinstance(model.optimizer._learning_rate, keras.optimizers.schedules.LearningRateSchedule):
            model.optimizer.learning_rate = float(run.lrs[t])
        grads = [keras.ops.convert_to_tensor(run.grads[k][t]) for k in ("w", "b")]
        model.optimizer.apply(grads, model.trainable_variables)
    return {k: np.array(w, copy=True) for k, w in zip(("w", "b"), model.get_weights())}


def save(model, path):
    model.save_weights(path) if path.name.endswith(".weights.h5") else model.save(path)
    return path


def stop(run, path, *, optimizer=None, **options):
    """Stop a Keras run halfway and save it: (file, parameters there, where the uninterrupted run ends)."""
    model = make_model(run.start, optimizer or keras.optimizers.RMSprop(**options))
    there = advance(model, run, 0, STOP)
    return save(model, path), there, advance(model, run, STOP, END)


@pytest.fixture
def run():
    return Run.make("float32")


def edit_config(source, target, edit):
    """Copy a `.keras` file with its config.json, as text, replaced by `edit(text)`."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, edit(data.decode()) if name == "config.json" else data)
    return target


# ---- runs that continue elsewhere ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.keras", "a.h5"])
@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"momentum": 0.9, "centered": True}])
def test_a_keras_run_continues_in_torch(tmp_path, run, name, options):
    file, there, end = stop(run, tmp_path / name, epsilon=1e-3, **options)
    make = lambda p: RMSprop(p, dialect="keras3", eps=1e-3, **options)  # noqa: E731
    mine, report = continue_in_torch(tmp_path, run, make, file, there)
    assert (report.source.format, report.source.step) == ("keras3", STOP)
    assert_same_end(mine, end)


def test_without_momentum_and_eps_a_keras_run_continues_in_torchs_own_optimizer(tmp_path, run):
    file, there, end = stop(run, tmp_path / "a.keras", rho=0.95, epsilon=1e-20, weight_decay=0.0)
    mine, report = continue_in_torch(tmp_path, run, torch.optim.RMSprop, file, there, to="torch")
    assert any("eps: keras3 has it inside the root, the target outside" in note for note in report.notes)
    assert load_torch(tmp_path / "own.pt")["param_groups"][0]["alpha"] == 0.95
    assert_same_end(mine, end)


def test_a_schedule_shifts_all_positions_by_one(tmp_path, run):
    run.lrs = 0.01 * 0.8 ** (np.arange(END) / 2)
    options = {"momentum": 0.9, "centered": True, "epsilon": 1e-3}
    file, there, end = stop(run, tmp_path / "a.keras", learning_rate=make_schedule(), **options)
    rule = rmsprop.dialect("keras3", momentum=0.9, centered=True, eps=1e-3)
    assert_same_end(continue_in_numpy(tmp_path, run, rule, file, there, names=TO_NAMES)[0], end, ulps=1024)
    # A configuration that denies its schedule, as a file edited by hand might: all positions are off by one.
    edit = lambda text: json.dumps(json.loads(text) | {"compile_config": deny_schedule(json.loads(text))})  # noqa: E731
    with pytest.raises(StateError, match="do not divide into blocks of the model's shapes"):
        checkpoints.read(edit_config(file, tmp_path / "edited.keras", edit))


def deny_schedule(config):
    config["compile_config"]["optimizer"]["config"]["learning_rate"] = 0.01
    return config["compile_config"]


def test_averages_of_the_weights_are_left_out(tmp_path, run):
    mine, theirs = (
        checkpoints.read(stop(run, tmp_path / f"{average}.keras", use_ema=average, momentum=0.9)[0])
        for average in (True, False)
    )
    assert any("average belong to the weights" in note for note in mine.notes)
    assert repr(mine.parameters) == repr(theirs.parameters)


def test_an_optax_run_continues_in_keras(tmp_path):
    run, end = Run.load("flax")
    options = {"momentum": 0.9, "centered": True, "epsilon": 1e-3}
    like = save(make_model(run.start, keras.optimizers.RMSprop(**options)), tmp_path / "fresh.keras")
    with pytest.raises(StateError, match="which is which takes a names map"):
        checkpoints.convert(RECORDED / "flax.msgpack", tmp_path / "b.keras", like=like)
    checkpoints.convert(RECORDED / "flax.msgpack", tmp_path / "b.keras", like=like, names=TO_POSITIONS)
    model = keras.models.load_model(tmp_path / "b.keras")
    assert int(model.optimizer.iterations) == STOP
    assert_same_end(advance(model, run, STOP, END), end, ulps=1024)


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_a_torch_run_continues_in_keras(tmp_path, run, suffix):
    make = lambda p: RMSprop(p, dialect="keras3", momentum=0.9, centered=True, eps=1e-3)  # noqa: E731
    source, there, end = stop_torch(run, make, tmp_path / "a.pt")
    model = make_model(there, keras.optimizers.RMSprop(momentum=0.9, centered=True, epsilon=1e-3))
    fresh, file = save(model, tmp_path / f"fresh{suffix}"), tmp_path / f"b{suffix}"
    slots = ("velocity", "momentum", "average_gradient") if suffix == ".weights.h5" else None
    checkpoints.convert(source, file, like=fresh, like_slots=slots)
    if slots:
        model.load_weights(file)
    else:
        model = keras.models.load_model(file)
    assert int(model.optimizer.iterations) == STOP
    assert_same_end(advance(model, run, STOP, END), end)


OWN = [
    {"dialect": "torch", "momentum": 0.9},
    {"dialect": "tensorflow1", "momentum": 0.9, "centered": True},
    {"dialect": rmsprop.Rule(rho=0.95, bias_correction=True)},
]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
@pytest.mark.parametrize("options", OWN, ids=["unit-buffer", "variance", "corrected"])
def test_rmsprop_keras_converts_both_ways_without_loss(tmp_path, run, options, suffix):
    front_end = pytest.importorskip("rmsprop.keras")
    file, there, end = stop(run, tmp_path / f"a{suffix}", optimizer=front_end.RMSprop(0.01, **options))
    slots = None
    if suffix == ".weights.h5" and "momentum" in options:
        slots = ("velocity", "momentum", *(["average_gradient"] if "centered" in options else []))
    found = checkpoints.read(file, slots=slots)
    if suffix == ".weights.h5" and "momentum" in options and "centered" not in options:
        return  # nothing in such a file says what its buffer sums
    assert found.buffer == {"torch": "unit", "tensorflow1": "lr"}.get(options["dialect"], "none")
    changes = {key: value for key, value in options.items() if key != "dialect"}
    rule = rmsprop.dialect(options["dialect"], **changes) if changes else options["dialect"]
    mine, _ = continue_in_numpy(tmp_path, run, rule, file, there, names=TO_NAMES, slots=slots)
    assert_same_end(mine, end)
    back = tmp_path / f"c{suffix}"
    checkpoints.convert(tmp_path / "own.safetensors", back, like=file, names=TO_POSITIONS, like_slots=slots)
    for mine, theirs in zip(checkpoints.read(back, slots=slots).parameters, found.parameters):
        for name, array in theirs.arrays.items():
            np.testing.assert_allclose(mine.arrays[name], array, rtol=1e-6)


def test_bfloat16_statistics_are_read_and_written(tmp_path):
    import ml_dtypes

    values = np.array([0.5, 2.0], ml_dtypes.bfloat16)
    with h5py.File(tmp_path / "a.weights.h5", "w") as file:
        for i, value in enumerate((np.int64(STOP), np.float32(0.1), values.view("V2"))):
            file[f"optimizer/vars/{i}"] = value
        file["optimizer/vars"].attrs["name"] = "rmsprop"
        file["layers/w"] = values.view("V2")
    checkpoints.convert(tmp_path / "a.weights.h5", tmp_path / "b.weights.h5", like=tmp_path / "a.weights.h5")
    found = checkpoints.read(tmp_path / "b.weights.h5")
    np.testing.assert_array_equal(found.parameters[0].mean_sq, [0.5, 2.0])


# ---- files that do not say what their positions are ----------------------------------------------------------------


@pytest.mark.parametrize("scheduled", [False, True])
def test_plain_weights_files_tell_velocities_by_their_shapes(tmp_path, run, scheduled):
    options = {"learning_rate": make_schedule()} if scheduled else {}
    file, _, _ = stop(run, tmp_path / "a.weights.h5", **options)
    assert [p.shape for p in checkpoints.read(file).parameters] == [(3, 4), (4,)]


@pytest.mark.parametrize(
    ("slots", "reason"),
    [
        (None, r"2 array\(s\) for each parameter, and the file does not say which"),
        # The buffer has both signs; a mean square has not.
        (("average", "velocity"), r"negative elements.*shifted by one"),
        (("velocity", "momentum", "average_gradient"), "do not divide into blocks"),
        (("rms",), "expected velocity and any of"),
    ],
)
def test_a_weights_file_with_more_than_velocities_asks_which(tmp_path, run, slots, reason):
    file, _, _ = stop(run, tmp_path / "a.weights.h5", momentum=0.9)
    with pytest.raises((InputError, StateError), match=reason):
        checkpoints.read(file, slots=slots)
    found = checkpoints.read(file, slots=("velocity", "momentum"))
    assert (found.buffer, found.centered) == ("lr", False)


class Scale(keras.layers.Layer):
    """A layer of two scalars."""

    def build(self, shape):
        self.a, self.b = (self.add_weight(shape=(), initializer="ones") for _ in range(2))

    def call(self, x):
        return self.a * x + self.b


def test_a_first_parameter_without_axes_could_be_the_learning_rate(tmp_path):
    # Three scalars after the step: learning rate and two velocities, or three statistics of one parameter. Two: two
    # velocities of a scheduled run, or learning rate and velocity.
    for options, known in (({}, {}), ({"learning_rate": make_schedule()}, {"schedule": True})):
        model = keras.Sequential([keras.Input((1,)), Scale()])
        model.compile(optimizer := keras.optimizers.RMSprop(**options), "mse")
        optimizer.build(model.trainable_variables)
        optimizer.apply([keras.ops.convert_to_tensor(2.0)] * 2, model.trainable_variables)
        file = save(model, tmp_path / "a.weights.h5")
        with pytest.raises(InputError, match="give --schedule or --no-schedule"):
            checkpoints.read(file, slots=("velocity",) if known else None)
        found = checkpoints.read(file, slots=("velocity",), **known)
        np.testing.assert_allclose([p.mean_sq for p in found.parameters], [0.4, 0.4], rtol=1e-6)


# ---- what raises ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"slots": ("velocity", "average_gradient")}, {"schedule": True}])
def test_options_that_contradict_the_files_configuration_raise(tmp_path, run, options):
    file, _, _ = stop(run, tmp_path / "a.keras", momentum=0.9)
    with pytest.raises(StateError, match=f"{next(iter(options))}=.*but the file's configuration says"):
        checkpoints.read(file, **options)


@pytest.mark.parametrize("name", ["a.keras", "a.h5", "a.weights.h5"])
def test_the_state_of_adam_raises_with_its_name(tmp_path, run, name):
    file, _, _ = stop(run, tmp_path / name, optimizer=keras.optimizers.Adam())
    with pytest.raises(StateError, match=r"(?i)the state of adam\w*, not of RMSprop"):
        checkpoints.read(file)


@pytest.mark.parametrize(
    ("name", "compiled", "reason"),
    [
        ("a.keras", False, "no optimizer state in it"),
        ("a.h5", False, "weights without an optimizer's state"),
        ("a.weights.h5", True, "before the first step"),
    ],
)
def test_a_model_without_an_optimizers_state_raises(tmp_path, name, compiled, reason):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
    if compiled:
        model.compile(keras.optimizers.RMSprop())
    with pytest.raises(StateError, match=reason):
        checkpoints.read(save(model, tmp_path / name))


@pytest.mark.parametrize("name", ["a.keras", "a.weights.h5", "a.h5"])
def test_each_truncation_raises(tmp_path, run, name):
    content = stop(run, tmp_path / name)[0].read_bytes()
    for length in (9, len(content) // 2, len(content) - 1 if name == "a.keras" else len(content) // 4):
        (tmp_path / f"cut{name}").write_bytes(content[:length])
        with pytest.raises(FileError):
            checkpoints.read(tmp_path / f"cut{name}", "keras3")


def test_a_configuration_that_is_not_json_raises(tmp_path, run):
    file, _, _ = stop(run, tmp_path / "a.keras")
    with pytest.raises(FileError, match=r"config\.json: not JSON"):
        checkpoints.read(edit_config(file, tmp_path / "broken.keras", lambda text: text[:100]))


def test_decoupled_weight_decay_does_not_become_torchs(tmp_path, run):
    file, _, _ = stop(run, tmp_path / "a.keras", weight_decay=0.1)
    report = checkpoints.convert(file, tmp_path / "b.pt", to="torch")
    assert any("weight_decay: keras3 decouples it" in note for note in report.notes)
    assert "weight_decay" not in load_torch(tmp_path / "b.pt")["param_groups"][0]


def test_no_h5_is_written_because_keras_3_loads_it_with_a_fresh_optimizer(tmp_path, run):
    file, _, _ = stop(run, tmp_path / "a.h5")
    assert len(keras.models.load_model(file).optimizer.variables) == 2  # step and learning rate; no velocities
    with pytest.raises(InputError, match=r"Keras 3 restores no optimizer state from a \.h5"):
        checkpoints.convert(file, tmp_path / "b.h5", like=file)
    assert not (tmp_path / "b.h5").exists()
