"""Which parameter is which, and that the output is written atomically."""

from __future__ import annotations

import importlib
import json

import numpy as np
import pytest

import rmsprop
from checkpointing import (
    RECORDED,
    SHAPES,
    STOP,
    TO_NAMES,
    Run,
    continue_in_torch,
    run_torch,
    save_fresh,
    save_torch,
    stop_torch,
)
from rmsprop import checkpoints
from rmsprop.errors import FileError, InputError, MissingDependency, StateError

torch = pytest.importorskip("torch", reason="torch is not installed")


@pytest.fixture
def file(tmp_path):
    """A torch run that was stopped halfway."""
    return stop_torch(Run.make(), torch.optim.RMSprop, tmp_path / "a.pt")[0]


def convert_to_own(tmp_path, file, names, *, shapes=SHAPES):
    fresh = save_fresh(tmp_path / "fresh.safetensors", rmsprop.Rule(), shapes=shapes)
    return checkpoints.convert(file, tmp_path / "b.safetensors", like=fresh, names=names, force=True)


def test_a_weight_is_transposed_only_if_the_map_says_so(tmp_path, file):
    transposed = {"w": (4, 3), "b": (4,)}
    with pytest.raises(StateError, match=r"'w': shape \(3, 4\), the target has \(4, 3\).*\"transpose\": true"):
        convert_to_own(tmp_path, file, TO_NAMES, shapes=transposed)
    for axes in (True, [1, 0]):
        report = convert_to_own(tmp_path, file, {"0": {"to": "w", "transpose": axes}, "1": "b"}, shapes=transposed)
        mine = {p.name: p.mean_sq for p in report.written.parameters}["w"]
        np.testing.assert_array_equal(mine, report.source.parameters[0].mean_sq.T)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (None, "which is which takes a names map"),
        ({"0": "w", "2": "b"}, "'2' is not in the source, which has '0', '1'"),
        ({"0": "w"}, "'1' of the source is not in the map"),
        ({"0": "w", "1": "c"}, "nothing in the source is mapped to the target's 'b'"),
        ({"0": "w", "1": None}, "nothing in the source is mapped to the target's 'b'"),
        ({"0": "w", "1": "w"}, "two parameters for the target 'w'"),
        ({"0": "w", "1": 1.5}, "expected a name, a position, null"),
        ({"0": "w", "1": {"to": "b", "transpose": [0, 0]}}, "expected a name, a position, null"),
        ({"0": "w", "1": {"to": "b", "transpose": [1, 0]}}, "cannot be transposed"),
        (["0", "0"], "appears twice"),
        (3, "expected an object of names or a list"),
    ],
)
def test_a_map_that_does_not_fit_raises(tmp_path, file, names, reason):
    with pytest.raises((StateError, InputError), match=reason):
        convert_to_own(tmp_path, file, names)
    assert not (tmp_path / "b.safetensors").exists()


@pytest.mark.parametrize(
    ("names", "shapes"),
    [({"0": "w", "1": "b"}, [(3, 4), (4,)]), ({"0": 1, "1": 0}, [(4,), (3, 4)]), ({"0": None, "1": 0}, [(4,)])],
)
def test_positions_in_a_map_are_those_of_the_target(tmp_path, file, names, shapes):
    report = checkpoints.convert(file, tmp_path / "b.pt", to="torch", names=names)
    assert [p.shape for p in report.written.parameters] == shapes
    with pytest.raises(StateError, match=r"names: positions \[0, 2\], expected 0 to 1"):
        checkpoints.convert(file, tmp_path / "c.pt", to="torch", names={"0": 0, "1": 2})


def test_other_models_raise(tmp_path, file):
    with pytest.raises(StateError, match=r"'b': shape \(4,\), the target has \(5,\): another model"):
        convert_to_own(tmp_path, file, TO_NAMES, shapes={"w": (3, 4), "b": (5,)})
    with pytest.raises(StateError, match="nothing in the source is mapped to the target's 'c'"):
        convert_to_own(tmp_path, file, TO_NAMES, shapes={**SHAPES, "c": (1,)})
    with pytest.raises(StateError, match="'b' is mapped to nothing in the target, which has 'w'"):
        convert_to_own(tmp_path, file, TO_NAMES, shapes={"w": (3, 4)})
    other = Run.make(shapes={"w": (3, 4)})
    with pytest.raises(StateError, match="2 in the source, 1 in the target: another model"):
        continue_in_torch(tmp_path, other, torch.optim.RMSprop, file, other.start)


def test_a_map_is_read_from_a_json_file(tmp_path, file):
    (tmp_path / "names.json").write_text(json.dumps(TO_NAMES))
    report = convert_to_own(tmp_path, file, tmp_path / "names.json")
    assert [p.name for p in report.written.parameters] == ["b", "w"]
    with pytest.raises(FileError, match="no such file"):
        convert_to_own(tmp_path, file, tmp_path / "nothing.json")


def test_names_that_torch_stores_are_used(tmp_path):
    run = Run.make()
    _, optimizer = run_torch(run, lambda p: torch.optim.RMSprop(list(zip(SHAPES, p))), last=1)
    report = convert_to_own(tmp_path, save_torch(optimizer, tmp_path / "named.pt"), None)
    found = {p.name: p.mean_sq for p in report.written.parameters}
    np.testing.assert_array_equal(found["w"], optimizer.state_dict()["state"][0]["square_avg"].numpy())


def test_two_leaves_of_the_same_name_raise(tmp_path):
    rmsprop.RMSprop({"a/b": np.ones(1), "a": {"b": np.ones(1)}}, lr=0.1).save(tmp_path / "a")
    with pytest.raises(StateError, match="two leaves have the same name among a/b, a/b"):
        checkpoints.read(tmp_path / "a")


def test_nothing_is_overwritten_without_force(tmp_path, file):
    (tmp_path / "b.pt").write_text("mine")
    with pytest.raises(InputError, match="exists; nothing was written"):
        checkpoints.convert(file, tmp_path / "b.pt", to="torch")
    assert (tmp_path / "b.pt").read_text() == "mine"
    checkpoints.convert(file, tmp_path / "b.pt", to="torch", force=True)
    assert checkpoints.read(tmp_path / "b.pt").step == STOP


def test_a_failed_write_changes_nothing(tmp_path, file, monkeypatch):
    (tmp_path / "b.pt").write_text("mine")

    def fail(_tree, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.convert(file, tmp_path / "b.pt", to="torch", force=True)
    assert (tmp_path / "b.pt").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pt", "b.pt"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        *[({"to": to}, "give --like a checkpoint") for to in ("keras3", "tf-keras", "timm", "bitsandbytes", "rmsprop")],
        ({}, "to: which layout"),
        ({"to": "caffe"}, "format: 'caffe'"),
        ({"to": "bitsandbytes", "like": RECORDED / "timm.pt"}, "like: .* layout of timm, not of bitsandbytes"),
    ],
)
def test_a_target_that_is_not_clear_raises(tmp_path, file, options, reason):
    with pytest.raises(InputError, match=reason):
        checkpoints.convert(file, tmp_path / "b", **options)


def test_a_missing_folder_raises(tmp_path, file):
    with pytest.raises(InputError, match="nowhere does not exist"):
        checkpoints.convert(file, tmp_path / "nowhere" / "b.pt", to="torch")


def test_a_format_that_the_file_does_not_have_raises():
    with pytest.raises(FileError, match="in the layout of timm, not of torch"):
        checkpoints.read(RECORDED / "timm.pt", "torch")


def test_hyperparameters_that_differ_between_the_runs_are_named(tmp_path, file):
    run = Run.make()
    _, report = continue_in_torch(tmp_path, run, lambda p: torch.optim.RMSprop(p, alpha=0.9, eps=1e-5), file, run.start)
    assert "rho: 0.99 in the source, 0.9 in the target, which keeps its own" in report.notes
    assert "eps: 1e-08 in the source, 1e-05 in the target, which keeps its own" in report.notes
    assert checkpoints.convert(file, tmp_path / "c.pt", like=file).notes == ()


def test_a_snapshot_is_written_only_into_a_copy_with_its_parameters(tmp_path, file):
    fresh = save_fresh(tmp_path / "fresh.safetensors", rmsprop.Rule())
    with pytest.raises(StateError, match="snapshot: its parameters are not those of"):
        checkpoints.write(checkpoints.read(file), tmp_path / "b.safetensors", "rmsprop", like=fresh)
    checkpoints.write(checkpoints.read(file), tmp_path / "b.pt", "torch", like=file)
    assert checkpoints.read(tmp_path / "b.pt").step == STOP


def test_a_missing_framework_names_the_extra(file, monkeypatch):
    import_module = importlib.import_module

    def fail(name, *rest):
        if name == "torch":
            raise ImportError(name)
        return import_module(name, *rest)

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(MissingDependency, match=r'torch is needed .*: pip install "rmsprop\[torch\]"'):
        checkpoints.read(file)
