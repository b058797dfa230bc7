"""TensorFlow checkpoints: TensorFlow 1's RMSPropOptimizer, tf_keras and its legacy optimizer."""

from __future__ import annotations

import os

import numpy as np
import pytest

import rmsprop
from checkpointing import (
    END,
    STOP,
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

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
tf = pytest.importorskip("tensorflow", reason="tensorflow is not installed")
tf_keras = pytest.importorskip("tf_keras", reason="tf_keras is not installed")
tf1 = tf.compat.v1

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
# TensorFlow 1 passes Python numbers through float32, also to float64 kernels: these stay the same there.
NUMBERS = {"decay": 0.875, "epsilon": 2.0**-10}
NAMES = {"w": "net/w", "b": "net/b"}
IN_ORDER = ["net/w", "net/b"]
TO_NET = {"0": "net/w", "1": "net/b"}


def make_own(**options):
    return lambda p: RMSprop(p, dialect="tensorflow1", alpha=0.875, eps=2.0**-10, **options)


class Session:
    """A TensorFlow 1 run: variables, gradients that are fed, a Saver."""

    def __init__(self, run, **options):
        self.run = run
        self.graph = tf.Graph()
        with self.graph.as_default():
            self.variables = {k: tf1.get_variable(NAMES[k], initializer=p) for k, p in run.start.items()}
            self.grads = {k: tf1.placeholder(p.dtype, p.shape) for k, p in run.start.items()}
            self.lr = tf1.placeholder(tf.float64, ())
            optimizer = tf1.train.RMSPropOptimizer(self.lr, **options)
            self.step = tf1.train.get_or_create_global_step()
            pairs = [(self.grads[k], self.variables[k]) for k in run.start]
            self.train = optimizer.apply_gradients(pairs, global_step=self.step)
            self.saver = tf1.train.Saver()
            self.session = tf1.Session()
            self.session.run(tf1.global_variables_initializer())

    def advance(self, first, last):
        for t in range(first, last):
            feed = {self.grads[k]: g[t] for k, g in self.run.grads.items()}
            self.session.run(self.train, {self.lr: self.run.lrs[t], **feed})
        return {k: self.session.run(v) for k, v in self.variables.items()}

    def save(self, path):
        with self.graph.as_default():
            return self.saver.save(self.session, str(path), write_meta_graph=False)

    def restore(self, path):
        with self.graph.as_default():
            self.saver.restore(self.session, str(path))

    def assign(self, values):
        with self.graph.as_default():
            self.session.run([variable.assign(values[k]) for k, variable in self.variables.items()])


def stop_session(run, path, **options):
    session = Session(run, **options)
    stop = session.advance(0, STOP)
    return session.save(path), stop, session.advance(STOP, END)


# ---- TensorFlow 1 --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"momentum": 0.875}, {"momentum": 0.875, "centered": True}])
def test_a_tensorflow_1_run_continues_in_torch(tmp_path, options):
    run = Run.make()
    prefix, stop, end = stop_session(run, tmp_path / "model", **NUMBERS, **options)
    mine, report = continue_in_torch(tmp_path, run, make_own(**options), prefix, stop, names=IN_ORDER)
    assert (report.source.format, report.source.step) == ("tensorflow1", STOP)
    assert_same_end(mine, end, ulps=4096 if "centered" in options else 64)


def test_without_a_checkpoint_to_copy_the_torch_front_end_keeps_its_own_numbers(tmp_path):
    run = Run.make()
    prefix, stop, end = stop_session(run, tmp_path / "model", **NUMBERS, momentum=0.5)
    with pytest.raises(StateError, match=r"momentum_buf: .* give --lr"):
        checkpoints.convert(prefix, tmp_path / "b.pt", to="torch", names=IN_ORDER)
    with pytest.raises(StateError, match=r"no order.*a list of the names in the model's order"):
        checkpoints.convert(prefix, tmp_path / "b.pt", to="torch", buffer="none")
    options = {"to": "torch", "names": IN_ORDER, "buffer": "lr"}
    mine, report = continue_in_torch(tmp_path, run, make_own(momentum=0.5), prefix, stop, **options)
    assert any("lr, rho, eps, momentum, weight_decay: not in tensorflow1's file" in note for note in report.notes)
    assert_same_end(mine, end)


def test_the_first_numbered_slot_is_the_buffer_or_with_centered_mean_grad(tmp_path):
    for name, options in (("a", {"momentum": 0.5}), ("b", {"momentum": 0.5, "centered": True, "epsilon": 1e-3})):
        prefix, _, _ = stop_session(Run.make(), tmp_path / name, **options)
        reader = tf.train.load_checkpoint(prefix)
        found = {p.name: p for p in checkpoints.read(prefix).parameters}["net/w"]
        second = found.mean_grad if "centered" in options else found.momentum_buf
        np.testing.assert_array_equal(second, reader.get_tensor("net/w/RMSProp_1"))
        np.testing.assert_array_equal(found.mean_sq, reader.get_tensor("net/w/RMSProp"))
    np.testing.assert_array_equal(found.momentum_buf, reader.get_tensor("net/w/RMSProp_2"))


def test_a_torch_run_continues_in_tensorflow_1(tmp_path):
    run = Run.make()
    file, stop, end = stop_torch(run, make_own(momentum=0.875), tmp_path / "a.pt")
    session = Session(run, **NUMBERS, momentum=0.875)
    session.assign(stop)
    fresh = session.save(tmp_path / "fresh")
    checkpoints.convert(file, tmp_path / "model", like=fresh, names=TO_NET)
    session.restore(tmp_path / "model")
    assert session.session.run(session.step) == STOP
    assert_same_end(session.advance(STOP, END), end)
    assert sorted(p.name for p in tmp_path.glob("model*")) == ["model.data-00000-of-00001", "model.index"]


def test_a_centered_torch_state_becomes_slots_without_a_checkpoint_to_copy(tmp_path):
    file, _, _ = stop_torch(Run.make(), lambda p: torch.optim.RMSprop(p, centered=True), tmp_path / "a.pt")
    options = {"to": "tensorflow1", "names": TO_NET}
    checkpoints.convert(file, tmp_path / "model", **options)
    reader = tf.train.load_checkpoint(str(tmp_path / "model"))
    grad_avg = load_torch(file)["state"][0]["grad_avg"].numpy()
    np.testing.assert_array_equal(reader.get_tensor("net/w/RMSProp_1"), grad_avg)
    assert not reader.get_tensor("net/w/RMSProp_2").any()
    with pytest.raises(InputError, match=r"model\.data-00000-of-00001: exists"):
        checkpoints.convert(file, tmp_path / "model", **options)
    checkpoints.convert(file, tmp_path / "model", **options, buffer="none", force=True)
    assert not tf.train.load_checkpoint(str(tmp_path / "model")).get_tensor("net/w/RMSProp_2").any()


def save_arrays(prefix, arrays):
    names = sorted(arrays)
    tensors = [arrays[name] for name in names]
    tf.raw_ops.SaveV2(prefix=str(prefix), tensor_names=names, shape_and_slices=[""] * len(names), tensors=tensors)
    return prefix


def test_slots_in_a_scope_of_their_own_find_their_variable(tmp_path):
    arrays = {"w": np.ones(2), "OptimizeLoss/w/RMSProp": np.ones(2), "OptimizeLoss/w/RMSProp_1": np.zeros(2)}
    assert checkpoints.read(save_arrays(tmp_path / "a", arrays)).parameters[0].name == "w"


@pytest.mark.parametrize(
    ("slots", "reason"),
    [
        (["w/RMSProp"], "1 slots RMSProp"),
        (["w/RMSProp", "w/RMSProp_2"], "slots RMSProp"),
        ([f"w/RMSProp{i}" for i in ("", "_1", "_2", "_3")], "4 slots RMSProp.*several optimizers share them"),
        (["v/RMSProp", "v/RMSProp_1", "w/RMSProp", "w/RMSProp_1", "w/RMSProp_2"], "2 or 3 slots"),
        (["w/RMSProp", "w/RMSProp_1", "A/w/RMSProp", "A/w/RMSProp_1"], "several optimizers share them"),
        (["w/Adam", "w/Adam_1"], "the state of Adam"),
        (["w/Momentum"], "the state of Momentum"),
        ([], "no optimizer state in it"),
    ],
)
def test_slots_that_are_not_those_of_one_rmsprop_raise(tmp_path, slots, reason):
    with pytest.raises(StateError, match=reason):
        checkpoints.read(save_arrays(tmp_path / "a", {name: np.ones(2) for name in ("w", *slots)}))


def test_a_checkpoint_is_named_by_its_prefix_or_a_file_and_a_damaged_one_raises(tmp_path):
    prefix, _, _ = stop_session(Run.make(), tmp_path / "model")
    for suffix in ("", ".index", ".data-00000-of-00001"):
        assert checkpoints.read(prefix + suffix).format == "tensorflow1"
    with pytest.raises(FileError, match="give the prefix of one"):
        checkpoints.read(tmp_path)
    data = tmp_path / "model.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(FileError, match="not a complete TensorFlow checkpoint"):
        checkpoints.read(prefix)
    data.unlink()
    with pytest.raises(FileError, match=r"without its \.data"):
        checkpoints.read(prefix)


# ---- tf_keras ------------------------------------------------------------------------------------------------------

FULL = ("velocity", "momentum", "average_gradient")
OPTIONS = {"momentum": 0.9, "centered": True, "epsilon": 1e-3}


def get_module(legacy):
    return tf_keras.optimizers.legacy if legacy else tf_keras.optimizers


def make_model(start, optimizer):
    model = tf_keras.Sequential([tf_keras.Input((3,)), tf_keras.layers.Dense(4)])
    model.compile(optimizer, "mse")
    if hasattr(optimizer, "build"):
        optimizer.build(model.trainable_variables)
    model.set_weights([start["w"], start["b"]])
    return model


def advance(model, run, first, last):
    for t in range(first, last):
        model.optimizer.learning_rate = float(run.lrs[t])
        grads = [tf.constant(run.grads[k][t]) for k in ("w", "b")]
        model.optimizer.apply_gradients(zip(grads, model.trainable_variables))
    return {k: w.copy() for k, w in zip(("w", "b"), model.get_weights())}


def stop_model(run, path, optimizer):
    """Stop a run halfway and save it, as a checkpoint if the path has no suffix."""
    model = make_model(run.start, optimizer)
    stop = advance(model, run, 0, STOP)
    if path.suffix:
        model.save(path)
    else:
        path = tf.train.Checkpoint(model=model, optimizer=model.optimizer).save(str(path))
    return path, stop, advance(model, run, STOP, END)


@pytest.mark.parametrize("kind", ["a.h5", "a.keras", "ckpt"])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_tf_keras_run_continues_here(tmp_path, kind, legacy):
    run = Run.make("float32")
    file, stop, end = stop_model(run, tmp_path / kind, get_module(legacy).RMSprop(**OPTIONS))
    if legacy and kind == "a.keras":
        with pytest.raises(FileError, match="tf_keras does not save its legacy optimizers"):
            checkpoints.read(file)
        return
    slots = FULL if kind == "ckpt" and not legacy else None
    found = checkpoints.read(file, slots=slots)
    assert (found.format, found.step) == ("tf-keras-legacy" if legacy else "tf-keras", STOP)
    assert (found.centered, found.buffer) == (True, "lr")
    weight, bias = sorted(found.parameters, key=lambda p: -p.mean_sq.size)
    rule = rmsprop.dialect("tf-keras", momentum=0.9, centered=True, eps=1e-3)
    names = {weight.name: "w", bias.name: "b"}
    mine, _ = continue_in_numpy(tmp_path, run, rule, file, stop, names=names, slots=slots)
    assert_same_end(mine, end, ulps=1024)


def test_a_tf_keras_checkpoint_with_more_than_velocities_asks_which(tmp_path):
    run = Run.make("float32")
    plain, _, _ = stop_model(run, tmp_path / "a", tf_keras.optimizers.RMSprop())
    assert len(checkpoints.read(plain).parameters) == 2
    more, _, _ = stop_model(run, tmp_path / "b", tf_keras.optimizers.RMSprop(momentum=0.9))
    with pytest.raises(InputError, match=r"2 array\(s\) for each parameter"):
        checkpoints.read(more)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_state_returns_into_a_tf_keras_checkpoint(tmp_path, legacy):
    run = Run.make("float32")
    make, slots = get_module(legacy).RMSprop, None if legacy else FULL
    file, stop, end = stop_model(run, tmp_path / "a", make(**OPTIONS))
    like, _, _ = stop_model(Run.make("float32", seed=9), tmp_path / "other", make(**OPTIONS))
    checkpoints.convert(file, tmp_path / "b-1", like=like, slots=slots, like_slots=slots)
    model = make_model(stop, make(**OPTIONS))
    model.optimizer.apply_gradients((tf.zeros_like(v), v) for v in model.trainable_variables)
    status = tf.train.Checkpoint(optimizer=model.optimizer, model=model).restore(str(tmp_path / "b-1"))
    status.expect_partial()
    model.set_weights([stop["w"], stop["b"]])
    assert int(model.optimizer.iterations) == STOP
    assert_same_end(advance(model, run, STOP, END), end)


@pytest.mark.parametrize(
    ("path", "legacy", "name", "reason"),
    [
        ("a.h5", False, "Adam", r"the state of .*Adam, not of RMSprop"),
        ("a.h5", True, "Adam", r"the state of .*Adam, not of RMSprop"),
        ("ckpt", True, "Adam", "the state of Adam"),
        ("ckpt", True, "SGD", "the state of SGD .*none named rms"),
    ],
)
def test_the_state_of_another_optimizer_of_tf_keras_raises(tmp_path, path, legacy, name, reason):
    optimizer = getattr(get_module(legacy), name)(**({"momentum": 0.9} if name == "SGD" else {}))
    with pytest.raises(StateError, match=reason):
        checkpoints.read(stop_model(Run.make("float32"), tmp_path / path, optimizer)[0])
