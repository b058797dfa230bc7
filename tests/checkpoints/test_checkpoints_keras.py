"""Checkpoints of Keras 3: `.keras`, `.weights.h5` and `.h5`, whatever the backend."""

from __future__ import annotations

import io
import json
import os
import zipfile

import numpy as np
import pytest

import rmsprop
from checkpointing import END, STOP, Run, numpy_run, same_end, torch_run
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
BY_NAME = {"w": 0, "b": 1}


def decay():
    return keras.optimizers.schedules.ExponentialDecay(0.01, 2, 0.8)


def model_of(start, optimizer):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
    model.compile(optimizer, keras.losses.MeanSquaredError())
    optimizer.build(model.trainable_variables)
    model.set_weights([start["w"], start["b"]])
    return model


def keras_steps(model, run, first, last):
    for t in range(first, last):
        if not isinstance(model.optimizer._learning_rate, keras.optimizers.schedules.LearningRateSchedule):
            model.optimizer.learning_rate = float(run.lrs[t])
        grads = [keras.ops.convert_to_tensor(run.grads[k][t]) for k in ("w", "b")]
        model.optimizer.apply(grads, model.trainable_variables)
    return weights(model)


def weights(model):
    return {k: np.array(w, copy=True) for k, w in zip(("w", "b"), model.get_weights())}


def half(run, path, *, optimizer=None, **options):
    """Stop a Keras run halfway and save it: (file, parameters there, where the uninterrupted run ends)."""
    model = model_of(run.start, optimizer or keras.optimizers.RMSprop(**options))
    stop = keras_steps(model, run, 0, STOP)
    if path.name.endswith(".weights.h5"):
        model.save_weights(path)
    else:
        model.save(path)
    return path, stop, keras_steps(model, run, STOP, END)


# ---- runs that move ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.keras", "a.h5"])
@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"momentum": 0.9, "centered": True}])
def test_a_keras_run_goes_on_in_the_torch_front_end(tmp_path, name, options):
    run = Run.make("float32")
    file, stop, end = half(run, tmp_path / name, epsilon=1e-3, **options)
    make = lambda p: RMSprop(p, dialect="keras3", eps=1e-3, **options)  # noqa: E731
    _, fresh = torch_run(run, make, last=0)
    torch.save(fresh.state_dict(), tmp_path / "fresh.pt")
    report = checkpoints.convert(file, tmp_path / "b.pt", like=tmp_path / "fresh.pt")
    assert (report.source.format, report.source.step) == ("keras3", STOP)
    state = torch.load(tmp_path / "b.pt", weights_only=True)
    mine, _ = torch_run(run, make, first=STOP, state=state, start=stop)
    same_end(mine, end)


def test_without_momentum_and_eps_a_keras_run_goes_on_in_torchs_own_optimizer(tmp_path):
    run = Run.make("float32")
    file, stop, end = half(run, tmp_path / "a.keras", rho=0.95, epsilon=1e-20)
    report = checkpoints.convert(file, tmp_path / "b.pt", to="torch")
    assert any("eps: keras3 has it inside the root, the target outside" in note for note in report.notes)
    state = torch.load(tmp_path / "b.pt", weights_only=True)
    assert state["param_groups"][0]["alpha"] == 0.95
    mine, _ = torch_run(run, torch.optim.RMSprop, first=STOP, state=state, start=stop)
    same_end(mine, end)


def test_a_schedule_shifts_every_position_by_one_and_is_read_right_all_the_same(tmp_path):
    run = Run.make("float32")
    run.lrs = 0.01 * 0.8 ** (np.arange(END) / 2)
    file, stop, end = half(run, tmp_path / "a.keras", learning_rate=decay(), momentum=0.9, centered=True, epsilon=1e-3)
    with zipfile.ZipFile(file) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as weights_:
        assert weights_["optimizer/vars/1"].shape == (3, 4)  # and not the learning rate
    rule = rmsprop.dialect("keras3", momentum=0.9, centered=True, eps=1e-3)
    rmsprop.RMSprop({k: p.copy() for k, p in stop.items()}, lr=0.01, dialect=rule).save(tmp_path / "f.safetensors")
    checkpoints.convert(file, tmp_path / "b.safetensors", like=tmp_path / "f.safetensors", names={"0": "w", "1": "b"})
    same_end(numpy_run(run, rule, tmp_path / "b.safetensors", start=stop), end, ulps=1024)


def test_averages_and_accumulated_gradients_are_told_from_the_statistics(tmp_path):
    run = Run.make("float32")
    file, _, _ = half(run, tmp_path / "a.keras", use_ema=True, momentum=0.9)
    plain, _, _ = half(run, tmp_path / "b.keras", momentum=0.9)
    mine, theirs = checkpoints.read(file), checkpoints.read(plain)
    assert any("average belong to the weights" in note for note in mine.notes)
    for a, b in zip(mine.parameters, theirs.parameters):
        np.testing.assert_array_equal(a.mean_sq, b.mean_sq)
        np.testing.assert_array_equal(a.momentum_buf, b.momentum_buf)


def test_an_optax_run_goes_on_in_keras(tmp_path):
    jax = pytest.importorskip("jax", reason="jax is not installed")
    optax = pytest.importorskip("optax", reason="optax is not installed")
    run = Run.make("float32")
    table = jax.numpy.asarray(run.lrs, "float32")
    tx = optax.rmsprop(lambda count: table[count], momentum=0.9, eps=1e-4)
    params = {k: jax.numpy.asarray(p) for k, p in run.start.items()}
    state = tx.init(params)
    for t in range(END):
        if t == STOP:
            stop = {k: np.asarray(p) for k, p in params.items()}
            nested = {"0": {"nu": state[0].nu}, "1": {"count": state[1].count}, "2": {"trace": state[2].trace}}
            from rmsprop.checkpoints._msgpack import pack as packed

            (tmp_path / "a.msgpack").write_bytes(packed(jax.tree.map(np.asarray, nested)))
        updates, state = tx.update({k: jax.numpy.asarray(g[t]) for k, g in run.grads.items()}, state)
        params = optax.apply_updates(params, updates)
    end = {k: np.asarray(p) for k, p in params.items()}
    model_of(stop, keras.optimizers.RMSprop(momentum=0.9, epsilon=1e-4)).save(tmp_path / "fresh.keras")
    with pytest.raises(StateError, match="which is which takes a names map"):
        checkpoints.convert(tmp_path / "a.msgpack", tmp_path / "b.keras", like=tmp_path / "fresh.keras")
    checkpoints.convert(tmp_path / "a.msgpack", tmp_path / "b.keras", like=tmp_path / "fresh.keras", names=BY_NAME)
    model = keras.models.load_model(tmp_path / "b.keras")
    assert int(model.optimizer.iterations) == STOP
    same_end(keras_steps(model, run, STOP, END), end)


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_a_torch_run_goes_on_in_keras(tmp_path, suffix):
    run = Run.make("float32")
    make = lambda p: RMSprop(p, dialect="keras3", momentum=0.9, centered=True, eps=1e-3)  # noqa: E731
    stop, optimizer = torch_run(run, make, last=STOP)
    end, _ = torch_run(run, make)
    torch.save(optimizer.state_dict(), tmp_path / "a.pt")
    model = model_of(stop, keras.optimizers.RMSprop(momentum=0.9, centered=True, epsilon=1e-3))
    fresh, file = tmp_path / f"fresh{suffix}", tmp_path / f"b{suffix}"
    slots = ("velocity", "momentum", "average_gradient") if suffix == ".weights.h5" else None
    if slots:
        model.save_weights(fresh)
    else:
        model.save(fresh)
    checkpoints.convert(tmp_path / "a.pt", file, like=fresh, like_slots=slots)
    if slots:
        model.load_weights(file)
    else:
        model = keras.models.load_model(file)
    assert int(model.optimizer.iterations) == STOP
    same_end(keras_steps(model, run, STOP, END), end)


# ---- files that do not say what their positions are ----------------------------------------------------------------


def test_plain_weights_files_tell_velocities_by_their_shapes(tmp_path):
    run = Run.make("float32")
    for options in ({}, {"learning_rate": decay()}):
        file, _, _ = half(run, tmp_path / "a.weights.h5", **options)
        assert [p.shape for p in checkpoints.read(file).parameters] == [(3, 4), (4,)]


def test_a_weights_file_with_more_than_velocities_asks_which(tmp_path):
    run = Run.make("float32")
    file, _, _ = half(run, tmp_path / "a.weights.h5", momentum=0.9)
    with pytest.raises(InputError, match=r"2 array\(s\) for each parameter, and the file does not say which"):
        checkpoints.read(file)
    found = checkpoints.read(file, slots=("velocity", "momentum"))
    assert (found.buffer, found.centered) == ("lr", False)
    # The buffer has both signs, a mean gradient too, but a buffer is no mean square.
    with pytest.raises(StateError, match=r"negative elements.*shifted by one"):
        checkpoints.read(file, slots=("average", "velocity"))
    with pytest.raises(StateError, match="do not divide into blocks"):
        checkpoints.read(file, slots=("velocity", "momentum", "average_gradient"))
    with pytest.raises(InputError, match="expected velocity and any of"):
        checkpoints.read(file, slots=("rms",))


def test_a_first_parameter_without_axes_could_be_the_learning_rate_and_is_asked_for(tmp_path):
    class Scale(keras.layers.Layer):
        def build(self, shape):
            self.a, self.b = (self.add_weight(shape=(), initializer="ones") for _ in range(2))

        def call(self, x):
            return self.a * x + self.b

    def save(**options):
        model = keras.Sequential([keras.Input((1,)), Scale()])
        optimizer = keras.optimizers.RMSprop(**options)
        model.compile(optimizer, "mse")
        optimizer.build(model.trainable_variables)
        optimizer.apply([keras.ops.convert_to_tensor(2.0)] * 2, model.trainable_variables)
        model.save_weights(tmp_path / "a.weights.h5")
        return tmp_path / "a.weights.h5"

    # After the step three scalars: learning rate and two velocities, or three statistics of one parameter; not three
    # velocities, since the model has two weights.
    plain = save()
    with pytest.raises(InputError, match="give --schedule or --no-schedule"):
        checkpoints.read(plain)
    found = checkpoints.read(plain, slots=("velocity",))
    np.testing.assert_allclose([p.mean_sq for p in found.parameters], [0.4, 0.4], rtol=1e-6)
    # Two scalars: two velocities of a scheduled run, or learning rate and velocity.
    scheduled = save(learning_rate=decay())
    with pytest.raises(InputError, match="give --schedule or --no-schedule"):
        checkpoints.read(scheduled, slots=("velocity",))
    found = checkpoints.read(scheduled, schedule=True, slots=("velocity",))
    np.testing.assert_allclose([p.mean_sq for p in found.parameters], [0.4, 0.4], rtol=1e-6)


def test_options_that_contradict_the_files_own_configuration_are_refused(tmp_path):
    file, _, _ = half(Run.make("float32"), tmp_path / "a.keras", momentum=0.9)
    with pytest.raises(StateError, match=r"slots=.*but the file's configuration says"):
        checkpoints.read(file, slots=("velocity", "average_gradient"))
    with pytest.raises(StateError, match="schedule=True, but the file's configuration says False"):
        checkpoints.read(file, schedule=True)


# ---- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.keras", "a.h5", "a.weights.h5"])
def test_the_state_of_adam_is_refused_by_its_name(tmp_path, name):
    file, _, _ = half(Run.make("float32"), tmp_path / name, optimizer=keras.optimizers.Adam())
    with pytest.raises(StateError, match=r"(?i)the state of adam\w*, not of RMSprop"):
        checkpoints.read(file)


def test_a_model_that_was_never_compiled_and_one_that_was_never_built_have_no_state(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
    model.save(tmp_path / "a.keras")
    with pytest.raises(FileError, match="no optimizer state in it"):
        checkpoints.read(tmp_path / "a.keras")
    model.save(tmp_path / "a.h5")
    with pytest.raises(FileError, match="weights without an optimizer's state"):
        checkpoints.read(tmp_path / "a.h5")
    model.compile(keras.optimizers.RMSprop())
    model.save_weights(tmp_path / "a.weights.h5")
    with pytest.raises(StateError, match="before the first step"):
        checkpoints.read(tmp_path / "a.weights.h5")


def test_every_truncation_is_refused(tmp_path):
    run = Run.make("float32")
    for name in ("a.keras", "a.weights.h5", "a.h5"):
        file, _, _ = half(run, tmp_path / name)
        whole = file.read_bytes()
        for length in (9, len(whole) // 2, len(whole) - 1 if name == "a.keras" else len(whole) // 4):
            cut = tmp_path / f"cut{name}"
            cut.write_bytes(whole[:length])
            with pytest.raises(FileError):
                checkpoints.read(cut, "keras3")


def test_a_member_whose_path_escapes_the_archive_is_refused(tmp_path):
    file, _, _ = half(Run.make("float32"), tmp_path / "a.keras")
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("../../evil", "x")
    with pytest.raises(FileError, match=r"'\.\./\.\./evil' has a path that leaves the archive"):
        checkpoints.read(file)


def test_a_configuration_that_is_no_json_is_refused(tmp_path):
    file, _, _ = half(Run.make("float32"), tmp_path / "a.keras")
    broken = tmp_path / "broken.keras"
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(broken, "w") as new:
        for name in old.namelist():
            new.writestr(name, "{" if name == "config.json" else old.read(name))
    with pytest.raises(FileError, match=r"config\.json: not JSON"):
        checkpoints.read(broken)


def test_positions_of_a_shifted_file_are_refused(tmp_path):
    # A configuration that denies its schedule, as a file edited by hand might: every position is off by one.
    file, _, _ = half(Run.make("float32"), tmp_path / "a.keras", learning_rate=decay(), momentum=0.9)
    lying = tmp_path / "lying.keras"
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(lying, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "config.json":
                config = json.loads(data)
                config["compile_config"]["optimizer"]["config"]["learning_rate"] = 0.01
                data = json.dumps(config).encode()
            new.writestr(name, data)
    with pytest.raises(StateError, match="do not divide into blocks of the model's shapes"):
        checkpoints.read(lying)


def test_nan_in_a_keras_file_is_refused(tmp_path):
    file, _, _ = half(Run.make("float32"), tmp_path / "a.weights.h5")
    with h5py.File(file, "r+") as opened:
        opened["optimizer/vars/2"][0, 0] = np.nan
    with pytest.raises(StateError, match="mean_sq has 1 of 12 elements that are NaN"):
        checkpoints.read(file)


def test_the_statistics_of_another_model_do_not_fit(tmp_path):
    run = Run.make("float32", shapes={"w": (4, 3), "b": (3,)})
    _, optimizer = torch_run(run, torch.optim.RMSprop, last=STOP)
    torch.save(optimizer.state_dict(), tmp_path / "a.pt")
    model_of(Run.make("float32").start, keras.optimizers.RMSprop()).save(tmp_path / "fresh.keras")
    with pytest.raises(StateError, match=r"'0': shape \(4, 3\), the target has \(3, 4\)"):
        checkpoints.convert(tmp_path / "a.pt", tmp_path / "b.keras", like=tmp_path / "fresh.keras")
    assert not (tmp_path / "b.keras").exists()


def test_decoupled_weight_decay_does_not_become_torchs(tmp_path):
    file, _, _ = half(Run.make("float32"), tmp_path / "a.keras", weight_decay=0.1)
    report = checkpoints.convert(file, tmp_path / "b.pt", to="torch")
    assert any("weight_decay: keras3 decouples it" in note for note in report.notes)
    assert "weight_decay" not in torch.load(tmp_path / "b.pt", weights_only=True)["param_groups"][0]


def test_keras_3_loads_an_h5_with_a_fresh_optimizer_so_none_is_written(tmp_path):
    run = Run.make("float32")
    file, _, _ = half(run, tmp_path / "a.h5")
    assert len(keras.models.load_model(file).optimizer.variables) == 2  # step and learning rate; no velocities
    with pytest.raises(InputError, match=r"Keras 3 restores no optimizer state from a \.h5"):
        checkpoints.convert(file, tmp_path / "b.h5", like=file)
    assert not (tmp_path / "b.h5").exists()


OWN = [
    {"dialect": "torch", "momentum": 0.9},
    {"dialect": "tensorflow1", "momentum": 0.9, "centered": True},
    {"dialect": rmsprop.Rule(rho=0.95, bias_correction=True)},
]


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
@pytest.mark.parametrize("options", OWN, ids=["unit-buffer", "variance", "corrected"])
def test_this_librarys_keras_front_end_moves_both_ways_without_loss(tmp_path, options, suffix):
    front_end = pytest.importorskip("rmsprop.keras")
    run = Run.make("float32")
    file, stop, end = half(run, tmp_path / f"a{suffix}", optimizer=front_end.RMSprop(0.01, **options))
    if suffix == ".weights.h5" and "momentum" in options:
        slots = ("velocity", "momentum", *(["average_gradient"] if "centered" in options else []))
    else:
        slots = None
    found = checkpoints.read(file, slots=slots)
    if suffix == ".keras" or "centered" in options:
        assert found.buffer == {"torch": "unit", "tensorflow1": "lr"}.get(options["dialect"], "none")
    elif "momentum" in options:
        return  # nothing in such a file says whose buffer it is
    changes = {key: value for key, value in options.items() if key != "dialect"}
    dialect = options["dialect"]
    rule = dialect if isinstance(dialect, rmsprop.Rule) else rmsprop.dialect(dialect, **changes)
    rmsprop.RMSprop({k: p.copy() for k, p in stop.items()}, lr=0.01, dialect=rule).save(tmp_path / "f.safetensors")
    own, names = tmp_path / "b.safetensors", {"0": "w", "1": "b"}
    checkpoints.convert(file, own, like=tmp_path / "f.safetensors", names=names, slots=slots)
    same_end(numpy_run(run, rule, own, start=stop), end)
    back = tmp_path / f"c{suffix}"
    checkpoints.convert(own, back, like=file, names=BY_NAME, like_slots=slots)
    for mine, theirs in zip(checkpoints.read(back, slots=slots).parameters, found.parameters):
        for name, array in theirs.arrays.items():
            np.testing.assert_allclose(mine.arrays[name], array, rtol=1e-6)
