"""Which parameter is which, and that the output appears whole or not at all."""

from __future__ import annotations

import json

import numpy as np
import pytest

import rmsprop
from checkpointing import (
    ORDER_MAP,
    RECORDED,
    SHAPES,
    STOP,
    Run,
    half,
    own_file,
    save,
    torch_run,
)
from rmsprop import checkpoints
from rmsprop.errors import FileError, InputError, StateError

torch = pytest.importorskip("torch", reason="torch is not installed")


def converted(tmp_path, names, *, shapes=SHAPES):
    file, _, _ = half(Run.make(), torch.optim.RMSprop, tmp_path / "a.pt")
    fresh = own_file(tmp_path / "fresh.safetensors", rmsprop.Rule(), shapes=shapes)
    return checkpoints.convert(file, tmp_path / "b.safetensors", like=fresh, names=names, force=True)


def test_positions_do_not_become_names_without_a_map(tmp_path):
    with pytest.raises(StateError, match="which is which takes a names map"):
        converted(tmp_path, None)


def test_a_weight_is_transposed_only_when_the_map_says_so(tmp_path):
    turned = {"w": (4, 3), "b": (4,)}
    with pytest.raises(StateError, match=r"'w': shape \(3, 4\), the target has \(4, 3\).*stored transposed there"):
        converted(tmp_path, ORDER_MAP, shapes=turned)
    for transpose in (True, [1, 0]):
        report = converted(tmp_path, {"0": {"to": "w", "transpose": transpose}, "1": "b"}, shapes=turned)
        mine = {p.name: p.mean_sq for p in report.written.parameters}["w"]
        np.testing.assert_array_equal(mine, report.source.parameters[0].mean_sq.T)


def test_the_shapes_of_another_model_are_refused(tmp_path):
    with pytest.raises(StateError, match=r"'b': shape \(4,\), the target has \(5,\): another model"):
        converted(tmp_path, ORDER_MAP, shapes={"w": (3, 4), "b": (5,)})


@pytest.mark.parametrize(
    ("names", "reason"),
    [
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
def test_a_map_that_does_not_fit_is_refused(tmp_path, names, reason):
    with pytest.raises((StateError, InputError), match=reason):
        converted(tmp_path, names)
    assert not (tmp_path / "b.safetensors").exists()


def test_a_map_is_read_from_a_json_file(tmp_path):
    (tmp_path / "names.json").write_text(json.dumps(ORDER_MAP))
    assert [p.name for p in converted(tmp_path, tmp_path / "names.json").written.parameters] == ["b", "w"]
    (tmp_path / "names.json").write_text('{"0": ')
    with pytest.raises(FileError, match="not JSON"):
        converted(tmp_path, tmp_path / "names.json")
    with pytest.raises(FileError, match="no such file"):
        converted(tmp_path, tmp_path / "nothing.json")


def test_names_that_torch_keeps_are_used(tmp_path):
    run = Run.make()
    params = {k: torch.nn.Parameter(torch.tensor(p)) for k, p in run.start.items()}
    optimizer = torch.optim.RMSprop(params.items())
    for name, param in params.items():
        param.grad = torch.tensor(run.grads[name][0])
    optimizer.step()
    save(optimizer, tmp_path / "a.pt")
    fresh = own_file(tmp_path / "fresh.safetensors", rmsprop.Rule())
    report = checkpoints.convert(tmp_path / "a.pt", tmp_path / "b.safetensors", like=fresh)
    found = {p.name: p.mean_sq for p in report.written.parameters}
    np.testing.assert_array_equal(found["w"], optimizer.state[params["w"]]["square_avg"].numpy())


def test_nothing_is_overwritten_without_force(tmp_path):
    file, _, _ = half(Run.make(), torch.optim.RMSprop, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_text("mine")
    with pytest.raises(InputError, match="exists; nothing was written"):
        checkpoints.convert(file, tmp_path / "b.pt", to="torch")
    assert (tmp_path / "b.pt").read_text() == "mine"
    checkpoints.convert(file, tmp_path / "b.pt", to="torch", force=True)
    assert checkpoints.read(tmp_path / "b.pt").step == STOP


def test_a_failed_write_leaves_what_stood_there_and_nothing_else(tmp_path, monkeypatch):
    file, _, _ = half(Run.make(), torch.optim.RMSprop, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_text("mine")

    def full(_tree, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.convert(file, tmp_path / "b.pt", to="torch", force=True)
    assert (tmp_path / "b.pt").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pt", "b.pt"]


def test_a_layout_that_needs_a_checkpoint_to_copy_asks_for_it(tmp_path):
    file, _, _ = half(Run.make(), torch.optim.RMSprop, tmp_path / "a.pt")
    for to in ("keras3", "tf-keras", "timm", "bitsandbytes", "rmsprop"):
        with pytest.raises(InputError, match="give --like a checkpoint"):
            checkpoints.convert(file, tmp_path / "b", to=to)
    with pytest.raises(InputError, match="to: which layout"):
        checkpoints.convert(file, tmp_path / "b")
    with pytest.raises(InputError, match=r"like: .* is in the layout of timm, not of bitsandbytes"):
        checkpoints.convert(file, tmp_path / "b", to="bitsandbytes", like=RECORDED / "timm.pt")
    with pytest.raises(InputError, match="does not exist"):
        checkpoints.convert(file, tmp_path / "nowhere" / "b.pt", to="torch")


def test_numbers_that_differ_between_the_two_runs_are_named(tmp_path):
    run = Run.make()
    file, _, _ = half(run, lambda p: torch.optim.RMSprop(p, alpha=0.95), tmp_path / "a.pt")
    _, fresh = torch_run(run, lambda p: torch.optim.RMSprop(p, eps=1e-5), last=0)
    save(fresh, tmp_path / "fresh.pt")
    report = checkpoints.convert(file, tmp_path / "b.pt", like=tmp_path / "fresh.pt")
    assert "rho: 0.95 in the source, 0.99 in the target, which goes on with its own" in report.notes
    assert "eps: 1e-08 in the source, 1e-05 in the target, which goes on with its own" in report.notes
    assert checkpoints.convert(file, tmp_path / "c.pt", like=file).notes == ()


def test_a_snapshot_with_other_parameters_is_not_written_into_a_copy(tmp_path):
    file, _, _ = half(Run.make(), torch.optim.RMSprop, tmp_path / "a.pt")
    fresh = own_file(tmp_path / "fresh.safetensors", rmsprop.Rule())
    with pytest.raises(StateError, match="convert does that"):
        checkpoints.write(checkpoints.read(file), tmp_path / "b.safetensors", "rmsprop", like=fresh)
    checkpoints.write(checkpoints.read(file), tmp_path / "b.pt", "torch", like=file)
    assert checkpoints.read(tmp_path / "b.pt").step == STOP


def test_the_layout_that_an_old_torch_shares_with_stable_baselines3_can_be_said(tmp_path):
    file, _, _ = half(Run.make("float32"), torch.optim.RMSprop, tmp_path / "a.pt")
    checkpoints.convert(file, tmp_path / "b.pt", to="sb3")
    assert checkpoints.read(tmp_path / "b.pt", "sb3").format == "sb3"
    assert checkpoints.read(tmp_path / "b.pt", "torch").init == 0.0
    with pytest.raises(FileError, match="in the layout of timm, not of torch"):
        checkpoints.read(RECORDED / "timm.pt", "torch")


def test_groups_that_differ_in_what_they_keep_are_refused(tmp_path):
    params = [torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(3))]
    optimizer = torch.optim.RMSprop([{"params": params[:1], "momentum": 0.9}, {"params": params[1:]}])
    with pytest.raises(StateError, match="some parameter groups have momentum and others not"):
        checkpoints.read(save(optimizer, tmp_path / "a.pt"))


def test_a_missing_framework_names_the_extra(tmp_path, monkeypatch):
    import importlib

    from rmsprop.errors import MissingDependency

    file, _, _ = half(Run.make(), torch.optim.RMSprop, tmp_path / "a.pt")
    real = importlib.import_module

    def without_torch(name, *rest):
        if name == "torch":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without_torch)
    with pytest.raises(MissingDependency, match=r'torch is needed .*: pip install "rmsprop\[torch\]"'):
        checkpoints.read(file)
