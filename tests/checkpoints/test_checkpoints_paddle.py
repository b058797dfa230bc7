"""PaddlePaddle's .pdopt, recorded from the real thing."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import rmsprop
from checkpointing import RECORDED, Run, numpy_run, same_end
from rmsprop import checkpoints
from rmsprop.errors import FileError, StateError

RULES = {
    "paddle": rmsprop.dialect("paddle", rho=0.9),
    "paddle_centered": rmsprop.dialect("paddle", rho=0.9, momentum=0.9, centered=True, eps=1e-3),
}


@pytest.mark.parametrize("name", list(RULES))
def test_a_recorded_paddle_run_goes_on_here(tmp_path, name):
    run, end = Run.recorded(name)
    params = {k: p.copy() for k, p in run.start.items()}
    rmsprop.RMSprop(params, lr=0.01, dialect=RULES[name]).save(tmp_path / "fresh.safetensors")
    names = {f"{name}_{k}": k for k in run.start}
    report = checkpoints.convert(
        RECORDED / f"{name}.pdopt", tmp_path / "b.safetensors", like=tmp_path / "fresh.safetensors", names=names
    )
    assert report.source.format == "paddle"
    assert report.source.step is None
    same_end(numpy_run(run, RULES[name], tmp_path / "b.safetensors", start=run.start), end, ulps=1024)


def test_an_always_allocated_mean_grad_of_zeros_is_no_mean_grad(tmp_path):
    assert checkpoints.read(RECORDED / "paddle.pdopt").statistics == ("mean_sq", "momentum_buf")
    assert checkpoints.read(RECORDED / "paddle_centered.pdopt").statistics == ("mean_sq", "mean_grad", "momentum_buf")
    rule = RULES["paddle_centered"]
    rmsprop.RMSprop({k: np.zeros(s, "f4") for k, s in (("w", (3, 4)), ("b", 4))}, lr=0.1, dialect=rule).save(
        tmp_path / "fresh.safetensors"
    )
    with pytest.raises(StateError, match="needs mean_grad, which the source never had"):
        checkpoints.convert(
            RECORDED / "paddle.pdopt",
            tmp_path / "b.safetensors",
            like=tmp_path / "fresh.safetensors",
            names={"paddle_w": "w", "paddle_b": "b"},
        )


def test_a_file_written_here_is_the_dict_that_paddle_wrote(tmp_path):
    for name in RULES:
        checkpoints.convert(RECORDED / f"{name}.pdopt", tmp_path / f"{name}.pdopt", to="paddle")
        mine, theirs = (
            pickle.loads((folder / f"{name}.pdopt").read_bytes())  # files of this repository
            for folder in (tmp_path, RECORDED)
        )
        assert set(mine) == set(theirs)
        assert mine["StructuredToParameterName@@"] == theirs["StructuredToParameterName@@"]
        for key in set(mine) - {"StructuredToParameterName@@"}:
            np.testing.assert_array_equal(mine[key], theirs[key])


def test_what_is_no_rmsprop_state_is_refused(tmp_path):
    for tree, reason in (
        ({"w_moment1_0": np.ones(2), "w_moment2_0": np.ones(2)}, "the state of Adam"),
        ({"w": np.ones(2)}, "no mean_square in it"),
        ([1, 2], "a list, expected the dict"),
    ):
        (tmp_path / "a.pdopt").write_bytes(pickle.dumps(tree))
        with pytest.raises((StateError, FileError), match=reason):
            checkpoints.read(tmp_path / "a.pdopt")


def test_every_truncation_is_refused(tmp_path):
    whole = (RECORDED / "paddle.pdopt").read_bytes()
    for length in range(0, len(whole), 7):
        (tmp_path / "cut.pdopt").write_bytes(whole[:length])
        with pytest.raises(FileError):
            checkpoints.read(tmp_path / "cut.pdopt", "paddle")
