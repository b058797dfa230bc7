"""PaddlePaddle's .pdopt, recorded from PaddlePaddle."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import rmsprop
from checkpointing import RECORDED, Run, assert_same_end, continue_in_numpy, save_fresh
from rmsprop import checkpoints
from rmsprop.errors import StateError

RULES = {
    "paddle": rmsprop.dialect("paddle", rho=0.9),
    "paddle_centered": rmsprop.dialect("paddle", rho=0.9, momentum=0.9, centered=True, eps=1e-3),
}


@pytest.mark.parametrize("name", list(RULES))
def test_a_paddle_run_continues_here(tmp_path, name):
    run, end = Run.load(name)
    file, names = RECORDED / f"{name}.pdopt", {f"{name}_{k}": k for k in run.start}
    mine, report = continue_in_numpy(tmp_path, run, RULES[name], file, run.start, names=names)
    assert (report.source.format, report.source.step) == ("paddle", None)
    assert_same_end(mine, end, ulps=1024)


def test_a_mean_grad_of_zeros_is_not_read_as_a_mean_grad(tmp_path):
    assert checkpoints.read(RECORDED / "paddle.pdopt").statistics == ("mean_sq", "momentum_buf")
    assert checkpoints.read(RECORDED / "paddle_centered.pdopt").statistics == ("mean_sq", "mean_grad", "momentum_buf")
    fresh = save_fresh(tmp_path / "fresh", RULES["paddle_centered"], dtype="float32")
    names = {"paddle_w": "w", "paddle_b": "b"}
    with pytest.raises(StateError, match="needs mean_grad"):
        checkpoints.convert(RECORDED / "paddle.pdopt", tmp_path / "b.safetensors", like=fresh, names=names)


@pytest.mark.parametrize("name", list(RULES))
@pytest.mark.parametrize("with_like", [False, True])
def test_a_file_written_here_is_the_dict_that_paddle_wrote(tmp_path, name, with_like):
    file = RECORDED / f"{name}.pdopt"
    checkpoints.convert(file, tmp_path / "a.pdopt", to="paddle", like=file if with_like else None)
    mine, theirs = (pickle.loads(path.read_bytes()) for path in (tmp_path / "a.pdopt", file))
    assert mine.pop("StructuredToParameterName@@") == theirs.pop("StructuredToParameterName@@")
    assert set(mine) == set(theirs)
    for key in mine:
        np.testing.assert_array_equal(mine[key], theirs[key])


@pytest.mark.parametrize(
    ("tree", "reason"),
    [
        ({"w_moment1_0": np.ones(2), "w_moment2_0": np.ones(2)}, "the state of Adam"),
        ({"w": np.ones(2)}, "no mean_square in it"),
        ([1, 2], "a list, expected the dict"),
    ],
)
def test_another_pickle_raises(tmp_path, tree, reason):
    (tmp_path / "a.pdopt").write_bytes(pickle.dumps(tree))
    with pytest.raises(StateError, match=reason):
        checkpoints.read(tmp_path / "a.pdopt")


def test_master_weights_are_left_out(tmp_path):
    tree = {"w_mean_square_0": np.ones(2), "master_weights": {"w": np.ones(2)}, "LR_Scheduler": {"last_epoch": 3}}
    (tmp_path / "a.pdopt").write_bytes(pickle.dumps(tree))
    assert checkpoints.read(tmp_path / "a.pdopt").notes == ("master_weights belong to the weights: left out",)
