"""`rmsprop convert`: what it prints, and its errors of one line."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from checkpointing import RECORDED, STOP
from rmsprop import checkpoints
from rmsprop.cli import app

torch = pytest.importorskip("torch", reason="torch is not installed")


def run(*words):
    return CliRunner(env={"COLUMNS": "160", "NO_COLOR": "1"}).invoke(app, ["convert", *map(str, words)])


def run_to_error(*words):
    result = run(*words)
    assert result.exit_code == 2, result.output
    assert len(result.stderr.strip().splitlines()) == 1
    return result.stderr


def test_help_shows_the_options_and_examples():
    result = run("--help")
    assert result.exit_code == 0
    for word in ("--to", "--from", "--map", "--lr", "--like", "--force", "rmsprop convert run8bit.pt run.pt"):
        assert word in result.output


def test_without_an_output_it_says_what_is_in_a_file():
    result = run(RECORDED / "timm.pt")
    assert result.exit_code == 0, result.output
    assert "found  timm" in result.output
    assert f"2 tensors, 16 elements, step {STOP}; mean_sq, momentum_buf (lr inside)" in result.output
    assert "3x4" in result.output


def test_it_prints_what_it_found_notes_and_what_it_wrote(tmp_path):
    result = run(RECORDED / "bitsandbytes8.pt", tmp_path / "run.pt", "--to", "torch")
    assert result.exit_code == 0, result.output
    assert "found  bitsandbytes" in result.output
    assert "note   the 8-bit statistics were widened to float32" in result.output
    assert f"wrote  {tmp_path / 'run.pt'}: mean_sq" in result.output
    assert checkpoints.read(tmp_path / "run.pt").step == STOP


def test_the_options_reach_the_conversion(tmp_path):
    out, names = tmp_path / "state.msgpack", tmp_path / "names.json"
    names.write_text(json.dumps({"0": "layer/w", "1": {"to": "layer/b"}}))
    words = [RECORDED / "timm.pt", out, "--to", "optax", "--from", "timm", "--map", names, "--step", "7", "--schedule"]
    assert run(*words).exit_code == 0
    assert checkpoints.read(out).step == 7
    assert "exists; nothing was written" in run_to_error(*words)
    assert run(*words, "--force").exit_code == 0
    assert run(out, tmp_path / "b.msgpack", "--like", out).exit_code == 0


def test_an_error_is_one_line_with_what_to_do(tmp_path):
    out = tmp_path / "out.pt"
    assert "give --lr" in run_to_error(RECORDED / "timm.pt", out, "--to", "torch")
    assert "no such file" in run_to_error(tmp_path / "nothing.pt", out, "--to", "torch")
    assert "format: 'caffe', expected one of torch" in run_to_error(RECORDED / "timm.pt", out, "--to", "caffe")
    assert "to: which layout" in run_to_error(RECORDED / "timm.pt", out)
    assert "expected none, unit or lr" in run_to_error(RECORDED / "timm.pt", out, "--to", "torch", "--buffer", "x")
    wrong = ["--to", "paddle", "--from", "paddle"]
    assert "not a pickle of arrays alone" in run_to_error(RECORDED / "timm.pt", tmp_path / "b.pdopt", *wrong)
    (tmp_path / "text.pt").write_text("hello")
    assert "not a known checkpoint" in run_to_error(tmp_path / "text.pt", out, "--to", "torch")
    assert not out.exists()
