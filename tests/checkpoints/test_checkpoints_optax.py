"""Checkpoints of optax.rmsprop: Orbax folders and flax's msgpack files."""

from __future__ import annotations

import numpy as np
import pytest

import rmsprop
from checkpointing import END, RECORDED, STOP, Run, far, numpy_run, same_end, torch_run
from rmsprop import checkpoints
from rmsprop.errors import FileError, InputError, StateError

jax = pytest.importorskip("jax", reason="jax is not installed")
optax = pytest.importorskip("optax", reason="optax is not installed")
ocp = pytest.importorskip("orbax.checkpoint", reason="orbax-checkpoint is not installed")
torch = pytest.importorskip("torch", reason="torch is not installed")
jnp = jax.numpy
# Orbax warns that arrays come back where they are; flax and Orbax of deprecated parts of jax.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

BY_NAME = {"0": "w", "1": "b"}


@pytest.fixture(autouse=True)
def _x64():
    with jax.enable_x64(True):
        yield


def schedule(run):
    table = jnp.asarray(run.lrs)
    return lambda count: table[count]


def optax_run(run, tx, *, first=0, last=END, state=None, start=None):
    params = {k: jnp.asarray(p) for k, p in (run.start if start is None else start).items()}
    state = tx.init(params) if state is None else state
    for t in range(first, last):
        updates, state = tx.update({k: jnp.asarray(g[t]) for k, g in run.grads.items()}, state, params)
        params = optax.apply_updates(params, updates)
    return {k: np.asarray(p) for k, p in params.items()}, state


def saved(path, tree):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, tree)
    return path


def restored(path, like):
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(path, like)


@pytest.mark.parametrize("scheduled", [True, False])
def test_a_torch_run_goes_on_in_optax_through_orbax(tmp_path, scheduled):
    run = Run.make(constant=True)
    make = lambda p: torch.optim.RMSprop(p, momentum=0.9, eps=1e-4)  # noqa: E731
    stop, optimizer = torch_run(run, make, last=STOP)
    end, _ = torch_run(run, make)
    torch.save(optimizer.state_dict(), tmp_path / "a.pt")
    tx = optax.rmsprop(schedule(run) if scheduled else 0.01, decay=0.99, eps=1e-4, eps_in_sqrt=False, momentum=0.9)
    tree = {"params": {k: jnp.asarray(p) for k, p in stop.items()}, "opt_state": tx.init(stop), "epoch": 7}
    saved(tmp_path / "fresh", tree)
    report = checkpoints.convert(tmp_path / "a.pt", tmp_path / "b", like=tmp_path / "fresh", names=BY_NAME, lr=0.01)
    assert report.written.step == STOP
    back = restored(tmp_path / "b", tree)
    assert back["epoch"] == 7
    assert not scheduled or back["opt_state"][1].count == STOP
    mine, _ = optax_run(run, tx, first=STOP, state=back["opt_state"], start=stop)
    same_end(mine, end)


def test_the_trace_of_optax_is_negative_and_has_lr_inside(tmp_path):
    run = Run.make()
    tx = optax.rmsprop(schedule(run), momentum=0.9)
    _, state = optax_run(run, tx, last=STOP)
    found = {p.name: p for p in checkpoints.read(saved(tmp_path / "a", state)).parameters}
    np.testing.assert_array_equal(found["w"].momentum_buf, -np.asarray(state[2].trace["w"]))
    assert checkpoints.read(tmp_path / "a").buffer == "lr"
    assert found["w"].step == STOP


def test_an_optax_run_goes_on_in_this_librarys_numpy_front_end_and_comes_back(tmp_path):
    run = Run.make()
    tx = optax.rmsprop(schedule(run), momentum=0.9, centered=True, eps=1e-3)
    stop, state = optax_run(run, tx, last=STOP)
    end, _ = optax_run(run, tx)
    rule = rmsprop.dialect("optax", momentum=0.9, centered=True, eps=1e-3)
    rmsprop.RMSprop({k: p.copy() for k, p in stop.items()}, lr=0.01, dialect=rule).save(tmp_path / "fresh.safetensors")
    saved(tmp_path / "a", state)
    checkpoints.convert(tmp_path / "a", tmp_path / "b.safetensors", like=tmp_path / "fresh.safetensors")
    same_end(numpy_run(run, rule, tmp_path / "b.safetensors", start=stop), end, ulps=1024)
    checkpoints.convert(tmp_path / "b.safetensors", tmp_path / "c", like=tmp_path / "a")
    back = restored(tmp_path / "c", state)
    for mine, theirs in zip(jax.tree.leaves(back), jax.tree.leaves(state)):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12)


def test_bias_corrected_optax_keeps_raw_averages(tmp_path):
    run = Run.make()
    tx = optax.rmsprop(schedule(run), decay=0.99, bias_correction=True)
    stop, state = optax_run(run, tx, last=STOP)
    end, _ = optax_run(run, tx)
    rule = rmsprop.dialect("optax", rho=0.99, bias_correction=True)
    rmsprop.RMSprop({k: p.copy() for k, p in stop.items()}, lr=0.01, dialect=rule).save(tmp_path / "fresh.safetensors")
    saved(tmp_path / "a", state)
    checkpoints.convert(tmp_path / "a", tmp_path / "b.safetensors", like=tmp_path / "fresh.safetensors")
    same_end(numpy_run(run, rule, tmp_path / "b.safetensors", start=stop), end)


def test_a_recorded_flax_file_goes_on_in_optax_and_here(tmp_path):
    run, end = Run.recorded("flax")
    found = checkpoints.read(RECORDED / "flax.msgpack")
    assert (found.format, found.step, found.centered, found.buffer) == ("optax", STOP, True, "lr")
    rule = rmsprop.dialect("optax", momentum=0.9, centered=True, eps=1e-3)
    rmsprop.RMSprop({k: p.copy() for k, p in run.start.items()}, lr=0.01, dialect=rule).save(tmp_path / "f.safetensors")
    checkpoints.convert(RECORDED / "flax.msgpack", tmp_path / "b.safetensors", like=tmp_path / "f.safetensors")
    same_end(numpy_run(run, rule, tmp_path / "b.safetensors", start=run.start), end, ulps=1024)


def test_a_flax_file_is_written_back_with_every_other_entry_as_it_was(tmp_path):
    from rmsprop.checkpoints._msgpack import unpack as unpacked

    report = checkpoints.convert(RECORDED / "flax.msgpack", tmp_path / "b.msgpack", like=RECORDED / "flax.msgpack")
    assert report.written.parameters[0].name == "b"
    mine, theirs = (unpacked(p.read_bytes(), str(p)) for p in (tmp_path / "b.msgpack", RECORDED / "flax.msgpack"))
    assert jax.tree.structure(mine) == jax.tree.structure(theirs)
    jax.tree.map(np.testing.assert_array_equal, mine, theirs)


def test_a_flax_file_written_here_is_the_bytes_that_flax_writes():
    from rmsprop.checkpoints._msgpack import pack as packed, unpack as unpacked

    data = (RECORDED / "flax.msgpack").read_bytes()
    assert packed(unpacked(data, "flax.msgpack")) == data


def test_arrays_that_flax_cuts_into_chunks_are_joined(monkeypatch):
    from rmsprop.checkpoints import _msgpack

    array = np.arange(24.0, dtype=np.float32).reshape(4, 6)
    monkeypatch.setattr(_msgpack, "_LARGEST", 40)
    data = _msgpack.pack({"w": array})
    assert b"__msgpack_chunked_array__" in data
    np.testing.assert_array_equal(_msgpack.unpack(data, "w")["w"], array)


@pytest.mark.parametrize("name", ["b", "b.msgpack"])
def test_without_a_checkpoint_to_copy_the_state_alone_is_written(tmp_path, name):
    run = Run.make()
    make = lambda p: torch.optim.RMSprop(p)  # noqa: E731
    _, optimizer = torch_run(run, make, last=STOP)
    torch.save(optimizer.state_dict(), tmp_path / "a.pt")
    with pytest.raises(StateError, match="positions and no names, the target needs names"):
        checkpoints.convert(tmp_path / "a.pt", tmp_path / name, to="optax")
    names = {"0": "layer/w", "1": "layer/b"}
    checkpoints.convert(tmp_path / "a.pt", tmp_path / name, to="optax", names=names, schedule=True)
    found = checkpoints.read(tmp_path / name)
    assert (found.step, sorted(p.name for p in found.parameters)) == (STOP, ["layer/b", "layer/w"])
    if name == "b":
        tx = optax.rmsprop(lambda count: 0.01)
        state = tx.init({"layer": {k: jnp.asarray(p) for k, p in run.start.items()}})
        nu = restored(tmp_path / "b", state)[0].nu["layer"]["w"]
        np.testing.assert_array_equal(nu, optimizer.state_dict()["state"][0]["square_avg"].numpy())


def test_the_state_is_found_inside_other_transformations(tmp_path):
    run = Run.make()
    tx = optax.apply_if_finite(
        optax.chain(optax.clip(1e9), optax.inject_hyperparams(optax.rmsprop)(learning_rate=0.1, momentum=0.9)), 3
    )
    _, state = optax_run(run, tx, last=STOP)
    found = checkpoints.read(saved(tmp_path / "a", {"opt": state}))
    assert (found.buffer, found.groups[0].numbers["momentum"]) == ("lr", pytest.approx(0.9))


def test_masked_parameters_have_no_state(tmp_path):
    tx = optax.masked(optax.rmsprop(0.1), {"w": True, "b": False})
    _, state = optax_run(Run.make(), tx, last=STOP)
    assert [p.name for p in checkpoints.read(saved(tmp_path / "a", state)).parameters] == ["w"]


# ---- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tx", [optax.adam(0.1), optax.adamw(0.1), optax.nadam(0.1)], ids=["adam", "adamw", "nadam"])
def test_adam_keeps_the_same_names_as_a_corrected_centered_rmsprop_and_is_refused(tmp_path, tx):
    _, state = optax_run(Run.make(), tx, last=STOP)
    with pytest.raises(StateError, match="what Adam keeps"):
        checkpoints.read(saved(tmp_path / "a", state))


def test_a_corrected_centered_rmsprop_is_read_when_the_user_says_so(tmp_path):
    tx = optax.rmsprop(0.1, centered=True, bias_correction=True)
    _, state = optax_run(Run.make(), tx, last=STOP)
    found = checkpoints.read(saved(tmp_path / "a", state), slots=("count", "mu", "nu"))
    assert (found.centered, found.bias_correction, found.step) == (True, True, STOP)


@pytest.mark.parametrize(
    ("tx", "reason"),
    [
        (optax.amsgrad(0.1), "nu_max beside nu|what Adam keeps"),
        (optax.sgd(0.1, momentum=0.9), "another optimizer: it has no nu"),
        (optax.adagrad(0.1), "another optimizer: it has no nu"),
        (optax.sgd(0.1), "no optax state"),
        (optax.chain(optax.scale_by_rms(), optax.trace(0.9), optax.scale(-0.1)), "lr before the trace"),
    ],
    ids=["amsgrad", "sgd-momentum", "adagrad", "sgd", "own-chain"],
)
def test_another_state_is_refused(tmp_path, tx, reason):
    _, state = optax_run(Run.make(), tx, last=STOP)
    with pytest.raises((StateError, FileError), match=reason):
        checkpoints.read(saved(tmp_path / "a", {"opt": state, "x": np.zeros(1)}))


def test_this_librarys_own_jax_state_is_pointed_to_its_converter(tmp_path):
    import rmsprop.jax

    _, state = optax_run(Run.make(), rmsprop.jax.rmsprop(0.1, momentum=0.9), last=STOP)
    with pytest.raises(StateError, match="to_optax"):
        checkpoints.read(saved(tmp_path / "a", state))


def test_of_several_states_one_is_chosen(tmp_path):
    tx = optax.rmsprop(0.1)
    _, state = optax_run(Run.make(), tx, last=STOP)
    saved(tmp_path / "a", {"g": state, "d": state})
    with pytest.raises(InputError, match="several optimizer states; choose one with --at: d/0, g/0"):
        checkpoints.read(tmp_path / "a")
    assert checkpoints.read(tmp_path / "a", at="g/0").parameters[0].shape == (4,)


def test_a_folder_of_steps_asks_for_one(tmp_path):
    tx = optax.rmsprop(0.1)
    _, state = optax_run(Run.make(), tx, last=STOP)
    with ocp.CheckpointManager(tmp_path / "runs") as manager:
        manager.save(3, args=ocp.args.StandardSave(state))
    with pytest.raises(FileError, match=r"give one step of it: .*3"):
        checkpoints.read(tmp_path / "runs")
    assert len(checkpoints.read(tmp_path / "runs" / "3").parameters) == 2


def test_a_damaged_orbax_folder_and_a_cut_msgpack_file_are_refused(tmp_path):
    _, state = optax_run(Run.make(), optax.rmsprop(0.1), last=STOP)
    saved(tmp_path / "a", state)
    (tmp_path / "a" / "_METADATA").write_text("{")
    with pytest.raises(FileError, match="not a whole Orbax checkpoint"):
        checkpoints.read(tmp_path / "a")
    whole = (RECORDED / "flax.msgpack").read_bytes()
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.msgpack").write_bytes(whole[:length])
        with pytest.raises(FileError, match="not a whole msgpack file"):
            checkpoints.read(tmp_path / "cut.msgpack")
    with pytest.raises(FileError, match="a folder that is no Orbax checkpoint"):
        checkpoints.read(tmp_path)


def test_an_orbax_folder_is_not_overwritten_without_force_and_is_replaced_whole(tmp_path):
    saved(tmp_path / "a", optax_run(Run.make(), optax.rmsprop(0.1), last=STOP)[1])
    saved(tmp_path / "b", optax_run(Run.make(), optax.rmsprop(0.1), last=0)[1])
    with pytest.raises(InputError, match="exists; nothing was written"):
        checkpoints.convert(tmp_path / "a", tmp_path / "b", to="optax")
    checkpoints.convert(tmp_path / "a", tmp_path / "b", to="optax", force=True)
    mine, theirs = (checkpoints.read(tmp_path / name).parameters[0].mean_sq for name in "ba")
    np.testing.assert_array_equal(mine, theirs)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_a_failed_orbax_write_leaves_what_stood_there(tmp_path, monkeypatch):
    saved(tmp_path / "a", optax_run(Run.make(), optax.rmsprop(0.1), last=STOP)[1])
    saved(tmp_path / "b", optax_run(Run.make(), optax.rmsprop(0.1), last=0)[1])

    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ocp.PyTreeCheckpointer, "save", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.convert(tmp_path / "a", tmp_path / "b", to="optax", force=True)
    assert not checkpoints.read(tmp_path / "b").parameters[0].mean_sq.any()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_a_schedule_without_a_known_step_asks_for_it(tmp_path):
    run = Run.make()
    saved(tmp_path / "a", optax_run(run, optax.rmsprop(0.1), last=STOP)[1])
    saved(tmp_path / "fresh", optax_run(run, optax.rmsprop(schedule(run)), last=0)[1])
    with pytest.raises(StateError, match="give --step"):
        checkpoints.convert(tmp_path / "a", tmp_path / "b", like=tmp_path / "fresh")
    checkpoints.convert(tmp_path / "a", tmp_path / "b", like=tmp_path / "fresh", step=STOP)
    assert checkpoints.read(tmp_path / "b").step == STOP


def test_a_run_with_visibly_other_state_would_be_noticed(tmp_path):
    # The comparisons above can fail: without the converted state a run ends elsewhere.
    run = Run.make()
    tx = optax.rmsprop(schedule(run), momentum=0.9)
    stop, _ = optax_run(run, tx, last=STOP)
    end, _ = optax_run(run, tx)
    mine, _ = optax_run(run, tx, first=STOP, start=stop)
    assert far(mine, end)
