"""`rmsprop convert`: what it prints, what it refuses, and in one line."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from checkpointing import RECORDED, STOP
from rmsprop import checkpoints
from rmsprop.cli import app

torch = pytest.importorskip("torch", reason="torch is not installed")


def call(*words):
    return CliRunner(env={"COLUMNS": "160", "NO_COLOR": "1"}).invoke(app, ["convert", *map(str, words)])


def refused(*words):
    result = call(*words)
    assert result.exit_code == 2, result.output
    assert len(result.stderr.strip().splitlines()) == 1
    return result.stderr


def test_help_shows_every_option_and_examples():
    result = call("--help")
    assert result.exit_code == 0
    for word in (
        "--to",
        "--from",
        "--map",
        "--lr",
        "--like",
        "--force",
        "rmsprop convert run8bit.pt run.pt --to torch",
    ):
        assert word in result.output


def test_without_an_output_it_says_what_is_in_a_file():
    result = call(RECORDED / "timm.pt")
    assert result.exit_code == 0, result.output
    assert "found  timm" in result.output
    assert f"2 tensors, 16 elements, step {STOP}; mean_sq, momentum_buf (lr inside)" in result.output
    assert "3x4" in result.output


def test_it_converts_and_says_what_it_found_what_to_know_and_what_it_wrote(tmp_path):
    result = call(RECORDED / "bitsandbytes8.pt", tmp_path / "run.pt", "--to", "torch")
    assert result.exit_code == 0, result.output
    assert "found  bitsandbytes" in result.output
    assert "note   the 8-bit statistics were widened to float32" in result.output
    assert f"wrote  {tmp_path / 'run.pt'}: mean_sq" in result.output
    assert checkpoints.read(tmp_path / "run.pt").step == STOP


def test_the_options_reach_the_conversion(tmp_path):
    out, names = tmp_path / "state.msgpack", tmp_path / "names.json"
    names.write_text(json.dumps({"0": "layer/w", "1": {"to": "layer/b"}}))
    words = [RECORDED / "timm.pt", out, "--to", "optax", "--from", "timm", "--map", names, "--step", "7", "--schedule"]
    assert call(*words).exit_code == 0
    assert checkpoints.read(out).step == 7
    assert "exists; nothing was written" in refused(*words)
    assert call(*words, "--force").exit_code == 0
    assert call(out, tmp_path / "b.msgpack", "--like", out).exit_code == 0


def test_refusals_are_one_line_with_the_way_out(tmp_path):
    out = tmp_path / "out.pt"
    assert "give --lr" in refused(RECORDED / "timm.pt", out, "--to", "torch")
    assert "no such file" in refused(tmp_path / "nothing.pt", out, "--to", "torch")
    assert "format: 'caffe', expected one of torch" in refused(RECORDED / "timm.pt", out, "--to", "caffe")
    assert "to: which layout" in refused(RECORDED / "timm.pt", out)
    assert "expected none, unit or lr" in refused(RECORDED / "timm.pt", out, "--to", "torch", "--buffer", "x")
    wrong = ["--to", "paddle", "--from", "paddle"]
    assert "not a pickle of arrays alone" in refused(RECORDED / "timm.pt", tmp_path / "b.pdopt", *wrong)
    (tmp_path / "text.pt").write_text("hello")
    assert "not a checkpoint that is known" in refused(tmp_path / "text.pt", out, "--to", "torch")
    assert not out.exists()
