"""TensorFlow checkpoints: TensorFlow 1's RMSPropOptimizer, tf_keras and its legacy optimizer."""

from __future__ import annotations

import os

import numpy as np
import pytest

import rmsprop
from checkpointing import END, STOP, Run, numpy_run, same_end, torch_run
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
# TensorFlow 1 passes Python numbers through float32, also to float64 kernels: these are the same numbers there.
EPS = 2.0**-10
NAMES = {"w": "net/w", "b": "net/b"}
MAP = ["net/w", "net/b"]


class Session:
    """A TensorFlow 1 run: variables, fed gradients, a Saver."""

    def __init__(self, run, *, make=None, **options):
        self.run = run
        self.graph = tf.Graph()
        with self.graph.as_default():
            self.variables = {k: tf1.get_variable(NAMES[k], initializer=p) for k, p in run.start.items()}
            self.grads = {k: tf1.placeholder(p.dtype, p.shape) for k, p in run.start.items()}
            self.lr = tf1.placeholder(tf.float64, ())
            optimizer = make(self.lr) if make else tf1.train.RMSPropOptimizer(self.lr, **options)
            self.step = tf1.train.get_or_create_global_step()
            pairs = [(self.grads[k], self.variables[k]) for k in run.start]
            self.train = optimizer.apply_gradients(pairs, global_step=self.step)
            self.saver = tf1.train.Saver()
            self.session = tf1.Session()
            self.session.run(tf1.global_variables_initializer())

    def steps(self, first, last):
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


def half(run, path, **options):
    session = Session(run, **options)
    stop = session.steps(0, STOP)
    prefix = session.save(path)
    return prefix, stop, session.steps(STOP, END)


# ---- TensorFlow 1 --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"momentum": 0.875}, {"momentum": 0.875, "centered": True}])
def test_a_tensorflow_1_run_goes_on_in_the_torch_front_end(tmp_path, options):
    run = Run.make()
    prefix, stop, end = half(run, tmp_path / "model", decay=0.875, epsilon=EPS, **options)
    make = lambda p: RMSprop(p, dialect="tensorflow1", alpha=0.875, eps=EPS, **options)  # noqa: E731
    _, fresh = torch_run(run, make, last=0)
    torch.save(fresh.state_dict(), tmp_path / "fresh.pt")
    report = checkpoints.convert(prefix, tmp_path / "b.pt", like=tmp_path / "fresh.pt", names=MAP)
    assert (report.source.format, report.source.step) == ("tensorflow1", STOP)
    state = torch.load(tmp_path / "b.pt", weights_only=True)
    mine, _ = torch_run(run, make, first=STOP, state=state, start=stop)
    same_end(mine, end, ulps=4096 if "centered" in options else 64)


def test_without_a_checkpoint_to_copy_the_torch_front_end_keeps_its_own_numbers(tmp_path):
    run = Run.make()
    prefix, stop, end = half(run, tmp_path / "model", decay=0.875, epsilon=EPS, momentum=0.5)
    with pytest.raises(StateError, match=r"momentum_buf: .* give --lr"):
        checkpoints.convert(prefix, tmp_path / "b.pt", to="torch", names=MAP)
    report = checkpoints.convert(prefix, tmp_path / "b.pt", to="torch", names=MAP, buffer="lr")
    assert any("lr, rho, eps, momentum, weight_decay: not in tensorflow1's file" in note for note in report.notes)
    state = torch.load(tmp_path / "b.pt", weights_only=True)
    make = lambda p: RMSprop(p, dialect="tensorflow1", alpha=0.875, eps=EPS, momentum=0.5)  # noqa: E731
    mine, _ = torch_run(run, make, first=STOP, state=state, start=stop)
    same_end(mine, end)


def test_the_first_numbered_slot_is_momentum_without_centered_and_mean_grad_with_it(tmp_path):
    run = Run.make()
    for name, options in (("a", {"momentum": 0.5}), ("b", {"momentum": 0.5, "centered": True, "epsilon": 1e-3})):
        prefix, _, _ = half(run, tmp_path / name, **options)
        reader = tf.train.load_checkpoint(prefix)
        found = {p.name: p for p in checkpoints.read(prefix).parameters}["net/w"]
        second = found.mean_grad if "centered" in options else found.momentum_buf
        np.testing.assert_array_equal(second, reader.get_tensor("net/w/RMSProp_1"))
        np.testing.assert_array_equal(found.mean_sq, reader.get_tensor("net/w/RMSProp"))
    np.testing.assert_array_equal(found.momentum_buf, reader.get_tensor("net/w/RMSProp_2"))


def test_names_have_no_order_so_positions_need_a_list(tmp_path):
    prefix, _, _ = half(Run.make(), tmp_path / "model")
    with pytest.raises(StateError, match=r"has names .*and no order.*a list of the names in the model's order"):
        checkpoints.convert(prefix, tmp_path / "b.pt", to="torch", buffer="none")


def test_a_torch_run_goes_on_in_tensorflow_1(tmp_path):
    run = Run.make()
    make = lambda p: RMSprop(p, dialect="tensorflow1", alpha=0.875, eps=EPS, momentum=0.875)  # noqa: E731
    stop, optimizer = torch_run(run, make, last=STOP)
    end, _ = torch_run(run, make)
    torch.save(optimizer.state_dict(), tmp_path / "a.pt")
    session = Session(run, decay=0.875, epsilon=EPS, momentum=0.875)
    session.assign(stop)
    fresh = session.save(tmp_path / "fresh")
    names = {"0": "net/w", "1": "net/b"}
    checkpoints.convert(tmp_path / "a.pt", tmp_path / "model", like=fresh, names=names)
    session.restore(tmp_path / "model")
    assert session.session.run(session.step) == STOP
    same_end(session.steps(STOP, END), end)
    assert sorted(p.name for p in tmp_path.glob("model*")) == ["model.data-00000-of-00001", "model.index"]


def test_a_centered_torch_state_becomes_tensorflow_1_slots_without_a_checkpoint_to_copy(tmp_path):
    run = Run.make()
    _, optimizer = torch_run(run, lambda p: torch.optim.RMSprop(p, centered=True), last=STOP)
    torch.save(optimizer.state_dict(), tmp_path / "a.pt")
    names = {"0": "net/w", "1": "net/b"}
    checkpoints.convert(tmp_path / "a.pt", tmp_path / "model", to="tensorflow1", names=names)
    reader = tf.train.load_checkpoint(str(tmp_path / "model"))
    grad_avg = optimizer.state_dict()["state"][0]["grad_avg"].numpy()
    np.testing.assert_array_equal(reader.get_tensor("net/w/RMSProp_1"), grad_avg)
    assert not reader.get_tensor("net/w/RMSProp_2").any()
    with pytest.raises(InputError, match=r"model\.data-00000-of-00001: exists"):
        checkpoints.convert(tmp_path / "a.pt", tmp_path / "model", to="tensorflow1", names=names)
    checkpoints.convert(tmp_path / "a.pt", tmp_path / "model", to="tensorflow1", names=names, force=True)


def test_slots_in_a_scope_of_their_own_find_their_variable(tmp_path):
    arrays = {"w": np.ones(2), "OptimizeLoss/w/RMSProp": np.ones(2), "OptimizeLoss/w/RMSProp_1": np.zeros(2)}
    assert checkpoints.read(written(tmp_path / "a", arrays)).parameters[0].name == "w"


def written(prefix, arrays):
    names = sorted(arrays)
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[arrays[name] for name in names],
    )
    return prefix


@pytest.mark.parametrize(
    ("slots", "reason"),
    [
        (("RMSProp",), "1 slots RMSProp"),
        (("RMSProp", "RMSProp_2"), "slots RMSProp"),
        (("RMSProp", "RMSProp_1", "RMSProp_2", "RMSProp_3"), "4 slots RMSProp.*several optimizers share them"),
        (("Adam", "Adam_1"), "the state of Adam"),
        (("Momentum",), "the state of Momentum"),
        ((), "no optimizer state in it"),
    ],
)
def test_slots_that_are_not_one_rmsprops_are_refused(tmp_path, slots, reason):
    prefix = written(tmp_path / "a", {"w": np.ones(2), **{f"w/{slot}": np.ones(2) for slot in slots}})
    with pytest.raises((StateError, FileError), match=reason):
        checkpoints.read(prefix)


def test_variables_that_disagree_about_centered_are_refused(tmp_path):
    arrays = {f"v/RMSProp{s}": np.ones(2) for s in ("", "_1")}
    arrays |= {f"w/RMSProp{s}": np.ones(2) for s in ("", "_1", "_2")}
    with pytest.raises(StateError, match="2 or 3 slots"):
        checkpoints.read(written(tmp_path / "a", arrays))


def test_a_checkpoint_is_named_by_its_prefix_or_any_of_its_files(tmp_path):
    prefix, _, _ = half(Run.make(), tmp_path / "model")
    for suffix in ("", ".index", ".data-00000-of-00001"):
        assert checkpoints.read(prefix + suffix).format == "tensorflow1"
    with pytest.raises(FileError, match="give the prefix of one"):
        checkpoints.read(tmp_path)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    prefix, _, _ = half(Run.make(), tmp_path / "model")
    data = tmp_path / "model.data-00000-of-00001"
    whole = data.read_bytes()
    data.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileError, match="not a whole TensorFlow checkpoint"):
        checkpoints.read(prefix)
    data.unlink()
    with pytest.raises(FileError, match=r"without its \.data"):
        checkpoints.read(prefix)


# ---- tf_keras ------------------------------------------------------------------------------------------------------


def keras_model(start, optimizer):
    model = tf_keras.Sequential([tf_keras.Input((3,)), tf_keras.layers.Dense(4)])
    model.compile(optimizer, "mse")
    if hasattr(optimizer, "build"):
        optimizer.build(model.trainable_variables)
    model.set_weights([start["w"], start["b"]])
    return model


def keras_steps(model, run, first, last):
    for t in range(first, last):
        model.optimizer.learning_rate = float(run.lrs[t])
        grads = [tf.constant(run.grads[k][t]) for k in ("w", "b")]
        model.optimizer.apply_gradients(zip(grads, model.trainable_variables))
    return {k: w.copy() for k, w in zip(("w", "b"), model.get_weights())}


def keras_half(run, path, optimizer, *, h5=False):
    model = keras_model(run.start, optimizer)
    stop = keras_steps(model, run, 0, STOP)
    if h5:
        model.save(path)
    else:
        path = tf.train.Checkpoint(model=model, optimizer=model.optimizer).save(str(path))
    return path, stop, keras_steps(model, run, STOP, END)


FULL = ("velocity", "momentum", "average_gradient")


@pytest.mark.parametrize("kind", ["a.h5", "a.keras", "ckpt"])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_tf_keras_run_goes_on_here(tmp_path, kind, legacy):
    run = Run.make("float32")
    module = tf_keras.optimizers.legacy if legacy else tf_keras.optimizers
    optimizer = module.RMSprop(momentum=0.9, centered=True, epsilon=1e-3)
    file, stop, end = keras_half(run, tmp_path / kind, optimizer, h5=kind != "ckpt")
    if legacy and kind == "a.keras":
        with pytest.raises(FileError, match="does not keep its legacy optimizer's"):
            checkpoints.read(file)
        return
    slots = FULL if kind == "ckpt" and not legacy else None
    found = checkpoints.read(file, slots=slots)
    assert (found.format, found.step) == ("tf-keras-legacy" if legacy else "tf-keras", STOP)
    assert (found.centered, found.buffer) == (True, "lr")
    weight, bias = sorted(found.parameters, key=lambda p: -p.mean_sq.size)
    rule = rmsprop.dialect("tf-keras", momentum=0.9, centered=True, eps=1e-3)
    rmsprop.RMSprop({k: p.copy() for k, p in stop.items()}, lr=0.01, dialect=rule).save(tmp_path / "f.safetensors")
    names = {weight.name: "w", bias.name: "b"}
    checkpoints.convert(file, tmp_path / "b.safetensors", like=tmp_path / "f.safetensors", names=names, slots=slots)
    same_end(numpy_run(run, rule, tmp_path / "b.safetensors", start=stop), end, ulps=1024)


def test_a_tf_keras_checkpoint_with_more_than_velocities_asks_which(tmp_path):
    run = Run.make("float32")
    plain, _, _ = keras_half(run, tmp_path / "a", tf_keras.optimizers.RMSprop())
    assert len(checkpoints.read(plain).parameters) == 2
    more, _, _ = keras_half(run, tmp_path / "b", tf_keras.optimizers.RMSprop(momentum=0.9))
    with pytest.raises(InputError, match=r"2 array\(s\) for each parameter"):
        checkpoints.read(more)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_state_goes_back_into_a_tf_keras_checkpoint(tmp_path, legacy):
    run = Run.make("float32")
    module = tf_keras.optimizers.legacy if legacy else tf_keras.optimizers
    make = lambda: module.RMSprop(momentum=0.9, centered=True, epsilon=1e-3)  # noqa: E731
    slots = None if legacy else FULL
    file, stop, end = keras_half(run, tmp_path / "a", make())
    other = Run.make("float32", seed=9)
    like, _, _ = keras_half(other, tmp_path / "other", make())
    checkpoints.convert(file, tmp_path / "b-1", like=like, slots=slots, like_slots=slots)
    model = keras_model(stop, make())
    model.optimizer.apply_gradients((tf.zeros_like(v), v) for v in model.trainable_variables)
    status = tf.train.Checkpoint(optimizer=model.optimizer, model=model).restore(str(tmp_path / "b-1"))
    status.expect_partial()
    model.set_weights([stop["w"], stop["b"]])
    assert int(model.optimizer.iterations) == STOP
    same_end(keras_steps(model, run, STOP, END), end)


def test_the_state_of_adam_in_tf_keras_is_refused(tmp_path):
    run = Run.make("float32")
    for module in (tf_keras.optimizers, tf_keras.optimizers.legacy):
        file, _, _ = keras_half(run, tmp_path / "a.h5", module.Adam(), h5=True)
        with pytest.raises(StateError, match=r"the state of .*Adam, not of RMSprop"):
            checkpoints.read(file)
    prefix, _, _ = keras_half(run, tmp_path / "ckpt", tf_keras.optimizers.legacy.Adam())
    with pytest.raises(StateError, match="the state of Adam"):
        checkpoints.read(prefix)
    prefix, _, _ = keras_half(run, tmp_path / "sgd", tf_keras.optimizers.legacy.SGD(momentum=0.9))
    with pytest.raises(StateError, match="no rms: the state of SGD"):
        checkpoints.read(prefix)
