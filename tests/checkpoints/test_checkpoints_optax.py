"""Checkpoints of optax.rmsprop: Orbax folders and flax's msgpack files."""

from __future__ import annotations

import os

import numpy as np
import pytest

import rmsprop
from checkpointing import (
    END,
    RECORDED,
    STOP,
    TO_NAMES,
    Run,
    assert_same_end,
    continue_in_numpy,
    is_far,
    stop_torch,
)
from rmsprop import checkpoints
from rmsprop.checkpoints import _msgpack
from rmsprop.errors import FileError, InputError, StateError

jax = pytest.importorskip("jax", reason="jax is not installed")
optax = pytest.importorskip("optax", reason="optax is not installed")
ocp = pytest.importorskip("orbax.checkpoint", reason="orbax-checkpoint is not installed")
torch = pytest.importorskip("torch", reason="torch is not installed")
jnp = jax.numpy
FLAX = RECORDED / "flax.msgpack"
# Orbax warns that arrays return to the same device; flax and Orbax warn about deprecated parts of jax.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def x64():
    """Step in float64."""
    with jax.enable_x64(True):
        yield


def make_schedule(run):
    table = jnp.asarray(run.lrs)
    return lambda count: table[count]


def run_optax(run, tx, *, first=0, last=END, state=None, start=None):
    params = {k: jnp.asarray(p) for k, p in (run.start if start is None else start).items()}
    state = tx.init(params) if state is None else state
    for t in range(first, last):
        updates, state = tx.update({k: jnp.asarray(g[t]) for k, g in run.grads.items()}, state, params)
        params = optax.apply_updates(params, updates)
    return {k: np.asarray(p) for k, p in params.items()}, state


def save(path, tree):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, tree)
    return path


def save_run(path, tx, *, last=STOP):
    """Save the state of `tx` after some steps; return the path."""
    return save(path, run_optax(Run.make(), tx, last=last)[1])


def restore(path, like):
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(path, like)


@pytest.mark.parametrize("scheduled", [True, False])
def test_a_torch_run_continues_in_optax(tmp_path, scheduled):
    run = Run.make(constant=True)
    file, stop, end = stop_torch(run, lambda p: torch.optim.RMSprop(p, momentum=0.9, eps=1e-4), tmp_path / "a.pt")
    lr = make_schedule(run) if scheduled else 0.01
    tx = optax.rmsprop(lr, decay=0.99, eps=1e-4, eps_in_sqrt=False, momentum=0.9)
    tree = {"params": {k: jnp.asarray(p) for k, p in stop.items()}, "opt_state": tx.init(stop), "epoch": 7}
    fresh = save(tmp_path / "fresh", tree)
    report = checkpoints.convert(file, tmp_path / "b", like=fresh, names=TO_NAMES, lr=0.01)
    assert report.written.step == STOP
    back = restore(tmp_path / "b", tree)
    assert back["epoch"] == 7
    assert not scheduled or back["opt_state"][1].count == STOP
    assert_same_end(run_optax(run, tx, first=STOP, state=back["opt_state"], start=stop)[0], end)
    # Without the converted state the run ends elsewhere.
    assert is_far(run_optax(run, tx, first=STOP, start=stop)[0], end)


@pytest.mark.parametrize(
    "options", [{"momentum": 0.9, "centered": True, "eps": 1e-3}, {"decay": 0.99, "bias_correction": True}]
)
def test_an_optax_run_continues_in_numpy_and_returns(tmp_path, options):
    run = Run.make()
    tx = optax.rmsprop(make_schedule(run), **options)
    stop, state = run_optax(run, tx, last=STOP)
    rule = rmsprop.dialect("optax", **{"rho" if name == "decay" else name: value for name, value in options.items()})
    file = save(tmp_path / "a", state)
    assert_same_end(continue_in_numpy(tmp_path, run, rule, file, stop)[0], run_optax(run, tx)[0], ulps=1024)
    checkpoints.convert(tmp_path / "own.safetensors", tmp_path / "c", like=file)
    for mine, theirs in zip(jax.tree.leaves(restore(tmp_path / "c", state)), jax.tree.leaves(state)):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12)


def test_the_trace_of_optax_is_negative_and_has_lr_inside(tmp_path):
    run = Run.make()
    _, state = run_optax(run, optax.rmsprop(make_schedule(run), momentum=0.9), last=STOP)
    found = checkpoints.read(save(tmp_path / "a", state))
    w = next(p for p in found.parameters if p.name == "w")
    np.testing.assert_array_equal(w.momentum_buf, -np.asarray(state[2].trace["w"]))
    assert (found.buffer, w.step) == ("lr", STOP)


def test_a_flax_run_continues_here(tmp_path):
    run, end = Run.load("flax")
    rule = rmsprop.dialect("optax", momentum=0.9, centered=True, eps=1e-3)
    mine, report = continue_in_numpy(tmp_path, run, rule, FLAX, run.start)
    found = report.source
    assert (found.format, found.step, found.centered, found.buffer) == ("optax", STOP, True, "lr")
    assert_same_end(mine, end, ulps=1024)


def test_a_flax_file_is_written_with_the_bytes_of_flax(tmp_path):
    checkpoints.convert(FLAX, tmp_path / "b.msgpack", like=FLAX)
    assert (tmp_path / "b.msgpack").read_bytes() == FLAX.read_bytes()


def test_arrays_are_cut_into_chunks_as_in_flax(tmp_path, monkeypatch):
    monkeypatch.setattr(_msgpack, "_LARGEST", 16)
    checkpoints.convert(FLAX, tmp_path / "b.msgpack", like=FLAX)
    assert b"__msgpack_chunked_array__" in (tmp_path / "b.msgpack").read_bytes()
    mine, theirs = (checkpoints.read(path).parameters for path in (tmp_path / "b.msgpack", FLAX))
    assert repr(mine) == repr(theirs)


def test_other_values_of_a_flax_file_stay_as_they_are(tmp_path):
    tree = {
        "0": {"nu": {"w": np.ones(2, np.float32)}},
        "x": {"z": 1 + 2j, "s": np.float32(3), "text": "a", "none": None},
    }
    (tmp_path / "a.msgpack").write_bytes(_msgpack.pack(tree))
    checkpoints.convert(tmp_path / "a.msgpack", tmp_path / "b.msgpack", like=tmp_path / "a.msgpack")
    assert (tmp_path / "b.msgpack").read_bytes() == (tmp_path / "a.msgpack").read_bytes()


@pytest.mark.parametrize("name", ["b", "b.msgpack"])
def test_without_a_checkpoint_to_copy_the_state_alone_is_written(tmp_path, name):
    run = Run.make(constant=True)
    file, _, _ = stop_torch(run, lambda p: torch.optim.RMSprop(p, centered=True, momentum=0.9), tmp_path / "a.pt")
    with pytest.raises(StateError, match="positions and no names, the target needs names"):
        checkpoints.convert(file, tmp_path / name, to="optax", lr=0.01)
    names = {"0": "layer/w", "1": "layer/b"}
    report = checkpoints.convert(file, tmp_path / name, to="optax", names=names, schedule=True, lr=0.01)
    found = checkpoints.read(tmp_path / name)
    assert (found.step, found.centered) == (STOP, True)
    for p in found.parameters:
        written = next(q for q in report.written.parameters if q.name == p.name)
        np.testing.assert_array_equal(p.momentum_buf, written.momentum_buf)
    if name == "b":
        tx = optax.rmsprop(lambda count: 0.01, centered=True, momentum=0.9)
        state = tx.init({"layer": {k: jnp.asarray(p) for k, p in run.start.items()}})
        nu = restore(tmp_path / "b", state)[0].nu["layer"]["w"]
        np.testing.assert_array_equal(nu, report.source.parameters[0].mean_sq)


def test_the_state_is_found_inside_other_transformations(tmp_path):
    inner = optax.inject_hyperparams(optax.rmsprop)(learning_rate=0.1, momentum=0.9)
    _, state = run_optax(Run.make(), optax.apply_if_finite(optax.chain(optax.clip(1e9), inner), 3), last=STOP)
    found = checkpoints.read(save(tmp_path / "a", {"opt": state}))
    assert (found.buffer, found.groups[0].numbers["momentum"]) == ("lr", pytest.approx(0.9))


def test_masked_parameters_have_no_state(tmp_path):
    file = save_run(tmp_path / "a", optax.masked(optax.rmsprop(0.1), {"w": True, "b": False}))
    assert [p.name for p in checkpoints.read(file).parameters] == ["w"]


# ---- what raises ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tx", "reason"),
    [
        (optax.adam(0.1), "count, mu and nu are Adam's"),
        (optax.nadam(0.1), "count, mu and nu are Adam's"),
        (optax.amsgrad(0.1), "nu_max beside nu|count, mu and nu are Adam's"),
        (optax.sgd(0.1, momentum=0.9), "another optimizer: it has no nu"),
        (optax.adagrad(0.1), "another optimizer: it has no nu"),
        (optax.sgd(0.1), "no optax state"),
        (optax.chain(optax.scale_by_rms(), optax.trace(0.9), optax.scale(-0.1)), "lr before the trace"),
    ],
    ids=["adam", "nadam", "amsgrad", "sgd-momentum", "adagrad", "sgd", "own-chain"],
)
def test_another_state_raises(tmp_path, tx, reason):
    _, state = run_optax(Run.make(), tx, last=STOP)
    with pytest.raises(StateError, match=reason):
        checkpoints.read(save(tmp_path / "a", {"opt": state, "x": np.zeros(1)}))


def test_a_corrected_centered_rmsprop_is_read_if_the_user_says_so(tmp_path):
    file = save_run(tmp_path / "a", optax.rmsprop(0.1, centered=True, bias_correction=True))
    found = checkpoints.read(file, slots=("count", "mu", "nu"))
    assert (found.centered, found.bias_correction, found.step) == (True, True, STOP)


def test_complex_statistics_raise(tmp_path):
    (tmp_path / "a.msgpack").write_bytes(_msgpack.pack({"nu": {"w": np.ones(2, np.complex64)}}))
    with pytest.raises(StateError, match="parameter 'w': complex"):
        checkpoints.read(tmp_path / "a.msgpack")


def test_the_state_of_rmsprop_jax_raises_with_its_converter(tmp_path):
    import rmsprop.jax

    with pytest.raises(StateError, match="to_optax"):
        checkpoints.read(save_run(tmp_path / "a", rmsprop.jax.rmsprop(0.1, momentum=0.9)))


def test_the_user_chooses_among_several_states(tmp_path):
    _, state = run_optax(Run.make(), optax.rmsprop(0.1), last=STOP)
    save(tmp_path / "a", {"g": state, "d": state})
    with pytest.raises(InputError, match="several optimizer states; choose one with --at: d/0, g/0"):
        checkpoints.read(tmp_path / "a")
    assert checkpoints.read(tmp_path / "a", at="g/0").parameters[0].shape == (4,)


def test_a_folder_of_steps_asks_for_a_step(tmp_path):
    _, state = run_optax(Run.make(), optax.rmsprop(0.1), last=STOP)
    with ocp.CheckpointManager(tmp_path / "runs") as manager:
        manager.save(3, args=ocp.args.StandardSave(state))
    with pytest.raises(FileError, match=r"give one step of it: .*3"):
        checkpoints.read(tmp_path / "runs")
    assert len(checkpoints.read(tmp_path / "runs" / "3").parameters) == 2


def test_a_damaged_orbax_folder_raises(tmp_path):
    save_run(tmp_path / "a", optax.rmsprop(0.1))
    (tmp_path / "a" / "_METADATA").write_text("{")
    with pytest.raises(FileError, match="not a complete Orbax checkpoint"):
        checkpoints.read(tmp_path / "a")
    with pytest.raises(FileError, match="a folder that is not an Orbax checkpoint"):
        checkpoints.read(tmp_path)


def test_an_orbax_folder_is_replaced_only_by_force_and_only_if_the_write_succeeds(tmp_path, monkeypatch):
    save_run(tmp_path / "a", optax.rmsprop(0.1))
    save_run(tmp_path / "b", optax.rmsprop(0.1), last=0)
    with pytest.raises(InputError, match="exists; nothing was written"):
        checkpoints.convert(tmp_path / "a", tmp_path / "b", to="optax")

    def fail(_self, path, *_args, **_options):
        os.mkdir(f"{path}.orbax-checkpoint-tmp")  # as Orbax does
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(ocp.PyTreeCheckpointer, "save", fail)
        with pytest.raises(OSError, match="No space left"):
            checkpoints.convert(tmp_path / "a", tmp_path / "b", to="optax", force=True)
    assert not checkpoints.read(tmp_path / "b").parameters[0].mean_sq.any()
    checkpoints.convert(tmp_path / "a", tmp_path / "b", to="optax", force=True)
    mine, theirs = (checkpoints.read(tmp_path / name).parameters[0].mean_sq for name in "ba")
    np.testing.assert_array_equal(mine, theirs)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_a_schedule_without_a_known_step_asks_for_it(tmp_path):
    save_run(tmp_path / "a", optax.rmsprop(0.1))
    fresh = save_run(tmp_path / "fresh", optax.rmsprop(make_schedule(Run.make())), last=0)
    with pytest.raises(StateError, match="give --step"):
        checkpoints.convert(tmp_path / "a", tmp_path / "b", like=fresh)
    checkpoints.convert(tmp_path / "a", tmp_path / "b", like=fresh, step=STOP)
    assert checkpoints.read(tmp_path / "b").step == STOP
