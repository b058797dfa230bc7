"""What is no RMSprop state, or not a whole one, is refused before anything is written, and no pickle runs."""

from __future__ import annotations

import pickle
import zipfile

import pytest

import rmsprop
from checkpointing import (
    RECORDED,
    Run,
    half,
    own_file,
    save,
    torch_run,
)
from rmsprop import checkpoints
from rmsprop.errors import FileError, InputError, StateError

torch = pytest.importorskip("torch", reason="torch is not installed")


def test_a_mean_grad_that_never_existed_is_refused(tmp_path):
    run = Run.make()
    file, _, _ = half(run, torch.optim.RMSprop, tmp_path / "a.pt")
    _, fresh = torch_run(run, lambda p: torch.optim.RMSprop(p, centered=True), last=0)
    save(fresh, tmp_path / "fresh.pt")
    with pytest.raises(StateError, match="'0': the target is centered and needs mean_grad, which the source never had"):
        checkpoints.convert(file, tmp_path / "b.pt", like=tmp_path / "fresh.pt")
    assert not (tmp_path / "b.pt").exists()


def test_a_centered_state_has_no_place_in_bitsandbytes(tmp_path):
    file, _, _ = half(Run.make("float32"), lambda p: torch.optim.RMSprop(p, centered=True), tmp_path / "a.pt")
    with pytest.raises(StateError, match="bitsandbytes cannot be"):
        checkpoints.convert(file, tmp_path / "b.pt", like=RECORDED / "bitsandbytes32.pt")


@pytest.mark.parametrize(
    ("make", "other"),
    [
        (torch.optim.Adam, "Adam"),
        (torch.optim.Adagrad, "Adagrad"),
        (torch.optim.Adadelta, "Adadelta"),
        (torch.optim.SGD, "SGD"),
        (lambda p: torch.optim.SGD(p, momentum=0.9), "SGD"),
    ],
)
def test_the_state_of_another_optimizer_is_refused_by_its_name(tmp_path, make, other):
    _, optimizer = torch_run(Run.make(), make, last=2)
    with pytest.raises(StateError, match=other):
        checkpoints.read(save(optimizer, tmp_path / "a.pt"))


def test_a_fresh_adam_is_refused_as_a_target(tmp_path):
    file, _, _ = half(Run.make(), torch.optim.RMSprop, tmp_path / "a.pt")
    _, adam = torch_run(Run.make(), torch.optim.Adam, last=0)
    save(adam, tmp_path / "adam.pt")
    with pytest.raises(StateError, match=r"like: .*the state of Adam"):
        checkpoints.convert(file, tmp_path / "b.pt", like=tmp_path / "adam.pt")


def test_heavyballs_debiased_square_is_not_taken_for_a_raw_one(tmp_path):
    state = {0: {"scale_by_exp_avg_sq_exp_avg_sq_0": torch.ones(2), "step": 3}}
    torch.save({"state": state, "param_groups": [{"params": [0], "lr": 0.1}]}, tmp_path / "a.pt")
    with pytest.raises(StateError, match="the state of HeavyBall"):
        checkpoints.read(tmp_path / "a.pt")


def test_nan_is_refused_with_its_place(tmp_path):
    _, optimizer = torch_run(Run.make(), torch.optim.RMSprop, last=2)
    packed = optimizer.state_dict()
    packed["state"][1]["square_avg"][2] = float("nan")
    torch.save(packed, tmp_path / "a.pt")
    with pytest.raises(StateError, match=r"parameter '1': mean_sq has 1 of 4 elements that are NaN"):
        checkpoints.read(tmp_path / "a.pt")


def test_statistics_that_are_no_averages_of_one_gradient_are_refused(tmp_path):
    _, optimizer = torch_run(Run.make(), lambda p: torch.optim.RMSprop(p, centered=True), last=2)
    packed = optimizer.state_dict()
    packed["state"][0]["grad_avg"] += 3
    torch.save(packed, tmp_path / "a.pt")
    with pytest.raises(StateError, match=r"mean_grad\*\*2 is larger than mean_sq"):
        checkpoints.read(tmp_path / "a.pt")
    packed["state"][0]["square_avg"] *= -1
    torch.save(packed, tmp_path / "a.pt")
    with pytest.raises(StateError, match="mean_sq has negative elements"):
        checkpoints.read(tmp_path / "a.pt")


def test_every_truncation_of_a_file_is_refused(tmp_path):
    file, _, _ = half(Run.make(), torch.optim.RMSprop, tmp_path / "a.pt")
    whole = file.read_bytes()
    cut = tmp_path / "cut.pt"
    for length in (0, 1, 10, 100, len(whole) // 2, len(whole) - 1):
        cut.write_bytes(whole[:length])
        with pytest.raises(FileError):
            checkpoints.read(cut)


class Trap:
    """What runs when a pickle of it is loaded."""

    def __reduce__(self):
        return exec, ("import pathlib; pathlib.Path(__file__ if 0 else 'sprung').touch()",)


def test_no_pickle_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state": {}, "param_groups": [{"params": []}], "extra": Trap()}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Trap()))
    (tmp_path / "c.pdopt").write_bytes(pickle.dumps({"w_mean_square_0": Trap()}))
    torch.save(Trap(), tmp_path / "d.pt", _use_new_zipfile_serialization=False)
    for name, format in (("a.pt", None), ("b.pt", None), ("b.pt", "torch"), ("c.pdopt", None), ("d.pt", None)):
        with pytest.raises(FileError, match="never"):
            checkpoints.read(tmp_path / name, format)
    assert not (tmp_path / "sprung").exists()


def test_an_archive_member_whose_path_escapes_is_refused(tmp_path):
    for name in ("../policy.optimizer.pth", "/etc/policy.optimizer.pth", "a/../../b", "..\\b"):
        archive = tmp_path / "model.zip"
        with zipfile.ZipFile(archive, "w") as new:
            new.writestr("policy.optimizer.pth", b"")
            new.writestr(name, b"")
        with pytest.raises(FileError, match="leaves the archive"):
            checkpoints.read(archive)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.txt", b"hello", "not a checkpoint that is known"),
        ("a.pt", b"", "not a checkpoint that is known"),
        ("a.zip", None, "neither Keras's nor torch's"),
        ("a.pt", pickle.dumps({"state": 1}), "a pickle, which is never run"),
    ],
)
def test_what_is_no_checkpoint_is_refused(tmp_path, name, data, reason):
    path = tmp_path / name
    if data is None:
        with zipfile.ZipFile(path, "w") as new:
            new.writestr("readme", "hello")
    else:
        path.write_bytes(data)
    with pytest.raises(FileError, match=reason):
        checkpoints.read(path)


def test_a_missing_file_an_unknown_layout_and_a_state_without_one_are_refused(tmp_path):
    with pytest.raises(FileError, match="no such file"):
        checkpoints.read(tmp_path / "nothing.pt")
    with pytest.raises(FileError, match="no such file"):
        checkpoints.read(tmp_path / "nothing.pt", "torch")
    with pytest.raises(InputError, match="format: 'caffe'"):
        checkpoints.read(tmp_path / "nothing.pt", "caffe")
    torch.save({"model": torch.ones(2)}, tmp_path / "a.pt")
    with pytest.raises(FileError, match="no optimizer state in it"):
        checkpoints.read(tmp_path / "a.pt")


def test_an_own_file_that_is_corrupt_is_refused(tmp_path):
    file = own_file(tmp_path / "a.safetensors", rmsprop.Rule())
    whole = bytearray(file.read_bytes())
    whole[-1] ^= 1
    file.write_bytes(whole)
    with pytest.raises(FileError, match="corrupt"):
        checkpoints.read(file)
