"""What is not an RMSprop state, or not a complete one, raises before anything is written, and no pickle runs."""

from __future__ import annotations

import pickle
import zipfile

import pytest

import rmsprop
from checkpointing import RECORDED, Run, continue_in_torch, run_torch, save_fresh, save_torch, stop_torch
from rmsprop import checkpoints
from rmsprop.errors import FileError, InputError, StateError

torch = pytest.importorskip("torch", reason="torch is not installed")


def test_a_centered_target_needs_a_mean_grad(tmp_path):
    run = Run.make()
    file, stop, _ = stop_torch(run, torch.optim.RMSprop, tmp_path / "a.pt")
    with pytest.raises(StateError, match="'0': the target is centered and needs mean_grad"):
        continue_in_torch(tmp_path, run, lambda p: torch.optim.RMSprop(p, centered=True), file, stop)
    assert not (tmp_path / "own.pt").exists()


def test_bitsandbytes_cannot_hold_a_centered_state(tmp_path):
    file, _, _ = stop_torch(Run.make("float32"), lambda p: torch.optim.RMSprop(p, centered=True), tmp_path / "a.pt")
    with pytest.raises(StateError, match="bitsandbytes cannot be"):
        checkpoints.convert(file, tmp_path / "b.pt", like=RECORDED / "bitsandbytes32.pt")


@pytest.mark.parametrize(
    ("make", "steps", "other"),
    [
        (torch.optim.Adam, 2, "Adam"),
        (torch.optim.Adam, 0, "Adam"),
        (torch.optim.Adagrad, 2, "Adagrad"),
        (torch.optim.Adadelta, 2, "Adadelta"),
        (torch.optim.SGD, 2, "SGD"),
        (lambda p: torch.optim.SGD(p, momentum=0.9), 2, "SGD"),
    ],
)
def test_the_state_of_another_optimizer_raises_with_its_name(tmp_path, make, steps, other):
    run = Run.make()
    file = save_torch(run_torch(run, make, last=steps)[1], tmp_path / "a.pt")
    with pytest.raises(StateError, match=other):
        checkpoints.read(file)
    with pytest.raises(StateError, match=f"like: .*{other}"):
        checkpoints.convert(stop_torch(run, torch.optim.RMSprop, tmp_path / "b.pt")[0], tmp_path / "c.pt", like=file)


ONES = torch.ones(2)


@pytest.mark.parametrize(
    ("state", "group", "reason"),
    [
        ({"scale_by_exp_avg_sq_exp_avg_sq_0": ONES, "step": 3}, {}, "the state of HeavyBall"),
        ({"velocity": ONES, "step": 3}, {}, "no square_avg in it, but step, velocity"),
        ({}, {}, "no state, and no alpha in its groups"),
        ({"state1": ONES, "step": 3}, {"betas": (0, 0)}, "bitsandbytes Adagrad"),
        ({"state1": ONES.byte(), "step": 3}, {"betas": (0.9, 0)}, "qmap1 or absmax1 is missing"),
        ({"state1": ONES.byte(), "step": 3, "qmap1": ONES, "absmax1": ONES}, {"betas": (0.9, 0)}, "not blockwise"),
    ],
)
def test_states_with_other_entries_raise(tmp_path, state, group, reason):
    tree = {"state": {0: state} if state else {}, "param_groups": [{"params": [0], "lr": 0.1, **group}]}
    with pytest.raises(StateError, match=reason):
        checkpoints.read(save_torch(tree, tmp_path / "a.pt"))


def set_nan(state):
    state["square_avg"][1, 2] = float("nan")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (set_nan, "parameter '0': mean_sq has 1 of 12 elements that are NaN or infinite"),
        (lambda state: state["grad_avg"].add_(3), r"mean_grad\*\*2 is larger than mean_sq"),
        (lambda state: state["square_avg"].mul_(-1), "mean_sq has negative elements"),
        (lambda state: state.update(grad_avg=ONES), r"mean_grad has shape \(2,\), expected \(3, 4\)"),
    ],
)
def test_statistics_that_rmsprop_cannot_have_raise(tmp_path, change, reason):
    _, optimizer = run_torch(Run.make(), lambda p: torch.optim.RMSprop(p, centered=True), last=2)
    packed = optimizer.state_dict()
    change(packed["state"][0])
    with pytest.raises(StateError, match=reason):
        checkpoints.read(save_torch(packed, tmp_path / "a.pt"))


def test_groups_that_keep_different_statistics_raise(tmp_path):
    make = lambda p: torch.optim.RMSprop([{"params": p[:1], "momentum": 0.9}, {"params": p[1:]}])  # noqa: E731
    with pytest.raises(StateError, match="some parameter groups have momentum and others not"):
        checkpoints.read(save_torch(run_torch(Run.make(), make, last=0)[1], tmp_path / "a.pt"))


@pytest.mark.parametrize(
    ("name", "format"),
    [("timm.pt", None), ("bitsandbytes8.pt", "torch"), ("paddle.pdopt", "paddle"), ("flax.msgpack", None)],
)
def test_each_truncation_raises(tmp_path, name, format):
    content = (RECORDED / name).read_bytes()
    for length in (*range(0, 100, 7), len(content) // 2, len(content) - 1):
        (tmp_path / name).write_bytes(content[:length])
        with pytest.raises(FileError):
            checkpoints.read(tmp_path / name, format)


class Trap:
    """Runs code when a pickle of it is loaded."""

    def __reduce__(self):
        return exec, ("import pathlib; pathlib.Path('sprung').touch()",)


def test_no_pickle_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_torch({"state": {}, "param_groups": [{"params": []}], "extra": Trap()}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Trap()))
    (tmp_path / "c.pdopt").write_bytes(pickle.dumps({"w_mean_square_0": Trap()}))
    torch.save(Trap(), tmp_path / "d.pt", _use_new_zipfile_serialization=False)
    for name, format in (("a.pt", None), ("b.pt", None), ("b.pt", "torch"), ("c.pdopt", None), ("d.pt", None)):
        with pytest.raises(FileError, match="never run"):
            checkpoints.read(tmp_path / name, format)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("inner", ["policy.optimizer.pth", "model.weights.h5"])
@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../b", "..\\b"])
def test_a_member_whose_path_leaves_the_archive_raises(tmp_path, inner, name):
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr(inner, b"")
        archive.writestr(name, b"")
    with pytest.raises(FileError, match="leaves the archive"):
        checkpoints.read(tmp_path / "model.zip")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"hello", "not a known checkpoint"),
        (b"", "not a known checkpoint"),
        (pickle.dumps({"state": 1}), "a pickle, which is never run"),
        ("a zip archive", "a zip archive that is not of Keras"),
        ("an unknown format", "format: 'caffe'"),
        (None, "no such file"),
    ],
)
def test_what_is_not_a_checkpoint_raises(tmp_path, content, reason):
    path = tmp_path / "a.pt"
    if content == "a zip archive":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme", "hello")
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises((FileError, InputError), match=reason):
        checkpoints.read(path, "caffe" if content == "an unknown format" else None)


@pytest.mark.parametrize(
    ("file", "options"),
    [
        ("timm.pt", {"slots": ["velocity"]}),
        ("timm.pt", {"schedule": False}),
        ("flax.msgpack", {"slots": ["count", "mu", "nu"]}),  # which nothing in this file could be mistaken for
        ("flax.msgpack", {"schedule": True}),
        ("paddle.pdopt", {"at": "g"}),
    ],
)
def test_an_option_that_a_file_does_not_need_raises(tmp_path, file, options):
    (name,) = options
    with pytest.raises(InputError, match=f"^{name}: .*does not need this option"):
        checkpoints.read(RECORDED / file, **options)
    like = {"like": RECORDED / file, **({f"like_{name}": options[name]} if name != "schedule" else {})}
    with pytest.raises(InputError, match="does not need this option"):
        checkpoints.convert(RECORDED / file, tmp_path / file, **(like if name != "schedule" else like | options))
    with pytest.raises(InputError, match="does not need this option"):
        checkpoints.write(checkpoints.read(RECORDED / file), tmp_path / file, "paddle", **options)
    assert not any(tmp_path.iterdir())


def test_a_torch_file_without_a_state_raises(tmp_path):
    with pytest.raises(FileError, match="no optimizer state in it"):
        checkpoints.read(save_torch({"model": ONES}, tmp_path / "a.pt"))


def test_an_own_file_that_is_corrupt_raises(tmp_path):
    file = save_fresh(tmp_path / "a.safetensors", rmsprop.Rule())
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(FileError, match="corrupt"):
        checkpoints.read(file)
