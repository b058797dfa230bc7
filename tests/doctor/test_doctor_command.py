"""`rmsprop doctor`: what it prints of a checkpoint and of a watched training, its exit code, its errors."""

from __future__ import annotations

import json

import numpy as np
import pytest
from trainings import MAKERS, TorchRMSprop, make_params, torch, train, watch
from typer.testing import CliRunner

import rmsprop
from checkpointing import RECORDED
from rmsprop import Rule
from rmsprop.cli import app


def call(*words, code=0):
    result = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, ["doctor", *map(str, words)])
    assert result.exit_code == code, result.output + result.stderr
    return result.stderr if code == 2 else result.output


def save(path, *, make=TorchRMSprop, steps=120, **options):
    optimizer = make(make_params((4, 3), (4,)), **{"lr": 1e-3, **options})
    train(optimizer, steps)
    torch.save({"optimizer": optimizer.state_dict(), "epoch": 3}, path)
    return optimizer


def write_watch(folder, steps=21, **options):
    optimizer = TorchRMSprop(make_params((4, 4)), **{"lr": 0.01, **options})
    with watch(optimizer, every=5, to=folder, budget=None, tensorboard=False):
        train(optimizer, steps)


def test_help_shows_the_options_the_exit_codes_and_examples():
    output = call("--help")
    for word in ("--json", "--plot", "--lr", "--at", "Exit code: 0 healthy", "rmsprop doctor runs/x"):
        assert word in output


# ---- checkpoints -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"centered": True}, {"momentum": 0.9}], ids=str)
def test_a_healthy_checkpoint_of_torch_gives_a_table_and_exit_code_0(tmp_path, options):
    optimizer = save(tmp_path / "run.pt", **options)
    output = call(tmp_path / "run.pt")
    assert f"{tmp_path / 'run.pt'}: torch, 2 tensors, step 120" in output
    assert "healthy: no findings" in output
    state = optimizer.state[optimizer.param_groups[0]["params"][0]]
    square = state["square_avg"] - (state["grad_avg"] ** 2 if options.get("centered") else 0)
    rate = np.sort((1e-3 / (square.sqrt() + 1e-8)).double().numpy().ravel())
    assert f"{rate[6]:.3g}" in next(line for line in output.splitlines() if "4x3" in line)


def test_findings_are_printed_with_the_remedy_and_given_as_json(tmp_path):
    save(tmp_path / "run.pt", lr=0.01, momentum=0.937)
    output = call(tmp_path / "run.pt", code=1)
    line = next(line for line in output.splitlines() if line.startswith("finding"))
    assert "38.9 x lr" in line
    assert "start mean_sq at 1 (dialect tensorflow1), or bias_correction=True" in line
    assert line.endswith("(also 1)")
    report = json.loads(call(tmp_path / "run.pt", "--json", code=1))
    assert [sample["tensor"] for sample in report["samples"]] == ["0", "1"]
    assert report["findings"][0]["kind"] == "start"
    assert report["findings"][0]["value"] == pytest.approx(38.9, abs=0.05)


def test_checkpoints_of_this_library_are_read(tmp_path):
    params = {"layer": {"w": np.ones((5, 4)), "b": np.ones(4)}}
    optimizer = rmsprop.RMSprop(params, lr=0.1, dialect=Rule(rho=0.99, bias_correction=True, centered=True))
    rng = np.random.default_rng(0)
    for _ in range(30):
        optimizer.step({"layer": {"w": rng.standard_normal((5, 4)), "b": rng.standard_normal(4)}})
    optimizer.save(tmp_path / "run.safetensors")
    report = json.loads(call(tmp_path / "run.safetensors", "--json", "--lr", "0.1"))
    samples = {sample["tensor"]: sample for sample in report["samples"]}
    expected = np.quantile(optimizer.effective_lr()["layer"]["w"], 0.5)
    assert samples["layer/w"]["effective_lr"][2] == pytest.approx(expected, rel=0.05)
    assert samples["layer/w"]["step"] == 30
    save(tmp_path / "8bit.pt", make=MAKERS["rmsprop"], state_dtype="8bit")
    call(tmp_path / "8bit.pt")


@pytest.mark.parametrize("name", ["timm.pt", "bitsandbytes8.pt", "bitsandbytes32.pt", "paddle.pdopt"])
def test_recorded_checkpoints_of_other_libraries_are_read(name):
    assert "healthy" in call(RECORDED / name)


def test_assumptions_about_a_checkpoint_are_printed(tmp_path):
    pytest.importorskip("msgpack", reason="msgpack is not installed")
    output = call(RECORDED / "flax.msgpack")
    assert "not in the file, taken from optax's defaults: eps 1e-08, rho 0.9" in output
    assert "lr is not in the file: the table shows 1 / denominator; give --lr" in output
    assert "lr is not in the file" not in call(RECORDED / "flax.msgpack", "--lr", "0.01")
    used, unused = make_params((3,), (4,))
    optimizer = TorchRMSprop([used, unused], lr=1e-3)
    used.grad = torch.ones(3)
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "run.pt")
    assert "1 of 2 tensors have had no step yet" in call(tmp_path / "run.pt")


def test_a_checkpoint_without_a_step_is_not_called_healthy(tmp_path):
    save(tmp_path / "new.pt", steps=0)
    output = call(tmp_path / "new.pt")
    assert "nothing to judge: no tensor has had a step" in output
    assert "healthy" not in output


def test_nan_is_a_finding(tmp_path):
    optimizer = save(tmp_path / "nan.pt", steps=1)
    optimizer.state[optimizer.param_groups[0]["params"][0]]["square_avg"][0] = float("nan")
    torch.save(optimizer.state_dict(), tmp_path / "nan.pt")
    output = call(tmp_path / "nan.pt", code=1)
    assert "finding  nan: 0, step 1: NaN or infinity in 3 of 12 elements of mean_sq" in output
    assert "(also" not in output


# ---- watched trainings -----------------------------------------------------------------------------------------------


def test_a_watched_training_is_judged_over_its_whole_history(tmp_path):
    write_watch(tmp_path / "x", alpha=0.999)
    for path in (tmp_path / "x", tmp_path / "x" / "doctor.jsonl"):
        output = call(path, code=1)
        assert "5 samples of 1 tensors" in output
        assert "start: 0, step 1: a first step of 31.6 x lr" in output
    report = json.loads(call(tmp_path / "x", "--json", code=1))
    assert [sample["step"] for sample in report["samples"]] == [1, 5, 10, 15, 20]
    assert (report["findings"][0]["samples"], report["findings"][0]["step"]) == (1, 1)


def test_of_two_trainings_in_one_folder_the_latest_is_judged(tmp_path):
    write_watch(tmp_path, alpha=0.999)
    write_watch(tmp_path, steps=11)  # with a smaller alpha
    output = call(tmp_path)
    assert "run 2 of this folder; earlier runs are left out" in output
    assert "3 samples of 1 tensors" in output


# ---- pictures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["png", "svg"])
@pytest.mark.parametrize("source", ["checkpoint", "watch"])
def test_a_picture_is_drawn(tmp_path, source, format):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    path, picture = tmp_path / "x", tmp_path / f"x.{format}"
    if source == "checkpoint":
        save(path, lr=0.01, alpha=0.999)
    else:
        write_watch(path, alpha=0.999)
    call(path, "--plot", picture, code=1)
    head = picture.read_bytes()[:100]
    assert head.startswith(b"\x89PNG") if format == "png" else b"<?xml" in head
    assert not list(tmp_path.glob("*.part"))


def test_an_lr_of_zero_has_no_picture_and_says_so(tmp_path):
    save(tmp_path / "run.pt", lr=0.0)
    output = call(tmp_path / "run.pt", "--plot", tmp_path / "x.png")
    assert "x.png was not drawn: no tensor has an effective learning rate above 0" in output.replace("\n", " ")
    assert not (tmp_path / "x.png").exists()


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (torch.optim.Adam, {"steps": 2}, "Adam"),
        (torch.optim.SGD, {"steps": 3}, "the state of SGD"),
        (torch.optim.SGD, {"steps": 3, "momentum": 0.9}, "the state of SGD"),
        (torch.optim.SGD, {"steps": 0, "momentum": 0.9}, "the state of SGD"),
        (torch.optim.Rprop, {"steps": 0}, "no alpha in its groups"),
    ],
)
def test_a_checkpoint_of_another_optimizer_is_an_error_with_its_name(make, options, message, tmp_path):
    save(tmp_path / "other.pt", make=make, **options)
    assert message in call(tmp_path / "other.pt", code=2)


@pytest.mark.parametrize(
    ("content", "words", "message"),
    [
        (None, (), "no such file"),
        (b"hello", (), "checkpoint"),
        (b"hello", ("--plot", "x.gif"), "expected a name that ends in .png"),
        (b"hello", ("--plot", "/nowhere/x.png"), "there is no folder /nowhere"),
    ],
)
def test_an_error_is_one_line(content, words, message, tmp_path):
    if content is not None:
        (tmp_path / "run.pt").write_bytes(content)
    error = call(tmp_path / "run.pt", *words, code=2)
    assert message in error
    assert len(error.strip().splitlines()) == 1
