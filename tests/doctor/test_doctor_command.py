"""`rmsprop doctor`: what it prints of a checkpoint and of a watched training, its exit code, what it refuses."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

import rmsprop
from checkpointing import RECORDED
from rmsprop import Rule
from rmsprop.cli import app

torch = pytest.importorskip("torch", reason="torch is not installed")

from rmsprop.doctor import watch  # noqa: E402
from torch_helpers import TorchRMSprop as Host  # noqa: E402
from torch_helpers import make_params as parameters  # noqa: E402
from torch_helpers import train  # noqa: E402


def call(*words):
    return CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, ["doctor", *map(str, words)])


def refused(*words):
    result = call(*words)
    assert result.exit_code == 2, result.output
    assert len(result.stderr.strip().splitlines()) == 1
    return result.stderr


def saved(path, *, make=Host, steps=120, **options):
    optimizer = make(parameters([(4, 3), (4,)]), **{"lr": 1e-3, **options})
    train(optimizer, steps)
    torch.save({"optimizer": optimizer.state_dict(), "epoch": 3}, path)
    return optimizer


def test_help_shows_the_options_the_exit_codes_and_examples():
    result = call("--help")
    assert result.exit_code == 0
    for word in ("--json", "--plot", "--lr", "--at", "Exit code: 0 healthy", "rmsprop doctor runs/x"):
        assert word in result.output


@pytest.mark.parametrize("options", [{}, {"centered": True}, {"momentum": 0.9}], ids=str)
def test_a_healthy_checkpoint_of_torch_gives_a_table_and_exit_code_0(tmp_path, options):
    optimizer = saved(tmp_path / "run.pt", **options)
    result = call(tmp_path / "run.pt")
    assert result.exit_code == 0, result.output
    assert f"{tmp_path / 'run.pt'}: torch, 2 tensors, step 120" in result.output
    assert "healthy: nothing to say" in result.output
    state = optimizer.state[optimizer.param_groups[0]["params"][0]]
    square = state["square_avg"] - (state["grad_avg"] ** 2 if options.get("centered") else 0)
    rate = np.sort((1e-3 / (square.sqrt() + 1e-8)).double().numpy().ravel())
    row = next(line for line in result.output.splitlines() if "4x3" in line)
    assert f"{rate[6]:.3g}" in row


def test_the_first_steps_of_a_finished_training_are_told_with_the_remedy(tmp_path):
    saved(tmp_path / "run.pt", lr=0.01, momentum=0.937)
    result = call(tmp_path / "run.pt")
    assert result.exit_code == 1
    line = next(line for line in result.output.splitlines() if line.startswith("finding"))
    assert "38.9 x lr" in line
    assert "start mean_sq at 1 (dialect tensorflow1), or bias_correction=True" in line
    assert line.endswith("(also 1)")


def test_json_is_the_looks_and_the_findings(tmp_path):
    saved(tmp_path / "run.pt", lr=0.01, alpha=0.999)
    result = call(tmp_path / "run.pt", "--json")
    assert result.exit_code == 1
    report = json.loads(result.output)
    assert [look["tensor"] for look in report["looks"]] == ["0", "1"]
    assert report["findings"][0]["kind"] == "start"
    assert report["findings"][0]["value"] == pytest.approx(1000**0.5, rel=1e-4)


def test_this_librarys_own_checkpoints_are_read(tmp_path):
    params = {"layer": {"w": np.ones((5, 4)), "b": np.ones(4)}}
    optimizer = rmsprop.RMSprop(params, lr=0.1, dialect=Rule(rho=0.99, bias_correction=True, centered=True))
    rng = np.random.default_rng(0)
    for _ in range(30):
        optimizer.step({"layer": {"w": rng.standard_normal((5, 4)), "b": rng.standard_normal(4)}})
    optimizer.save(tmp_path / "run.safetensors")
    report = json.loads(call(tmp_path / "run.safetensors", "--json", "--lr", "0.1").output)
    looks = {look["tensor"]: look for look in report["looks"]}
    told = np.quantile(optimizer.effective_lr()["layer"]["w"], 0.5)
    assert looks["layer/w"]["effective_lr"][2] == pytest.approx(told, rel=0.05)
    assert looks["layer/w"]["step"] == 30

    from rmsprop.torch import RMSprop

    saved(tmp_path / "8bit.pt", make=RMSprop, state_dtype="8bit")
    assert call(tmp_path / "8bit.pt").exit_code == 0


@pytest.mark.parametrize("name", ["timm.pt", "bitsandbytes8.pt", "bitsandbytes32.pt", "paddle.pdopt"])
def test_recorded_checkpoints_of_others_are_read(name):
    result = call(RECORDED / name)
    assert result.exit_code == 0, result.output
    assert "healthy" in result.output


def test_what_a_checkpoint_does_not_say_is_assumed_aloud(tmp_path):
    pytest.importorskip("msgpack", reason="msgpack is not installed")
    result = call(RECORDED / "flax.msgpack")
    assert "not in the file, taken from optax's defaults: eps 1e-08, rho 0.9" in result.output
    assert "lr is not in the file: the table shows 1 / denominator; give --lr" in result.output
    assert "lr is not in the file" not in call(RECORDED / "flax.msgpack", "--lr", "0.01").output


def test_an_eps_that_rules_and_rows_that_never_had_a_gradient_are_found_in_a_checkpoint(tmp_path):
    weight = torch.nn.Parameter(torch.ones(8, 3))
    optimizer = Host([weight], lr=1e-3, eps=1.0)
    for step in range(150):
        weight.grad = 1e-3 * torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        weight.grad[:4] = 0
        optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "run.pt")
    result = call(tmp_path / "run.pt")
    assert result.exit_code == 1
    assert "finding  eps: 0, step 150: eps rules 100 % of its elements" in result.output
    assert "finding  dead: 0, step 150: 50 % of its rows" in result.output


def test_parameters_that_no_step_has_touched_are_said(tmp_path):
    used, unused = parameters([(3,), (4,)])
    optimizer = Host([used, unused], lr=1e-3)
    used.grad = torch.ones(3)
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "run.pt")
    assert "1 of 2 tensors have had no step yet" in call(tmp_path / "run.pt").output


def test_a_watched_training_is_judged_over_its_whole_history(tmp_path):
    optimizer = Host(parameters([(4, 4)]), lr=0.01, alpha=0.999)
    with watch(optimizer, every=5, to=tmp_path / "x", budget=None, tensorboard=False):
        train(optimizer, 21)
    for path in (tmp_path / "x", tmp_path / "x" / "doctor.jsonl"):
        result = call(path)
        assert result.exit_code == 1
        assert "5 looks at 1 tensors" in result.output
        assert "start: 0, step 1: a first step of 31.6 x lr" in result.output
    report = json.loads(call(tmp_path / "x", "--json").output)
    assert [look["step"] for look in report["looks"]] == [1, 5, 10, 15, 20]
    assert (report["findings"][0]["looks"], report["findings"][0]["step"]) == (1, 1)


def test_a_healthy_history_has_exit_code_0(tmp_path):
    optimizer = Host(parameters([(4, 4)]), lr=1e-3)
    with watch(optimizer, every=5, to=tmp_path, budget=None, tensorboard=False):
        train(optimizer, 21)
    assert call(tmp_path).exit_code == 0


@pytest.mark.parametrize("format", ["png", "svg"])
def test_a_picture_is_drawn_of_a_checkpoint_and_of_a_history(tmp_path, format):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    optimizer = saved(tmp_path / "run.pt")
    with watch(optimizer, every=5, to=tmp_path / "x", budget=None, tensorboard=False):
        train(optimizer, 20)
    for i, source in enumerate(("run.pt", "x")):
        out = tmp_path / f"{i}.{format}"
        assert call(tmp_path / source, "--plot", out).exit_code == 0
        head = out.read_bytes()[:100]
        assert head.startswith(b"\x89PNG") if format == "png" else b"<?xml" in head
    assert not list(tmp_path.glob("*.part"))


def test_another_optimizers_checkpoint_is_refused_by_name(tmp_path):
    optimizer = torch.optim.Adam(parameters([(3,)]))
    train(optimizer, 2)
    torch.save(optimizer.state_dict(), tmp_path / "adam.pt")
    assert "the state of Adam" in refused(tmp_path / "adam.pt")


def test_refusals_are_one_line_with_the_way_out(tmp_path):
    assert "no such file" in refused(tmp_path / "nothing.pt")
    (tmp_path / "text.pt").write_text("hello")
    assert "not a checkpoint that is known" in refused(tmp_path / "text.pt")
    (tmp_path / "doctor.jsonl").write_text("hello\nworld\n")
    assert "line 1: Expecting value" in refused(tmp_path)
    saved(tmp_path / "run.pt", steps=1)
    assert re.search(r"expected a name that ends in \.png", refused(tmp_path / "run.pt", "--plot", tmp_path / "x.gif"))


# ---- what a file holds beyond a snapshot -----------------------------------------------------------------------------


@pytest.mark.parametrize(("momentum", "steps"), [(0.0, 3), (0.9, 3), (0.9, 0)])
def test_sgd_is_refused_by_name_whatever_little_state_it_leaves(tmp_path, momentum, steps):
    saved(tmp_path / "sgd.pt", make=torch.optim.SGD, steps=steps, momentum=momentum)
    assert "the state of SGD (its groups have dampening), not of RMSprop" in refused(tmp_path / "sgd.pt")


def test_an_optimizer_without_state_and_without_alpha_is_refused_with_what_its_groups_hold(tmp_path):
    saved(tmp_path / "rprop.pt", make=torch.optim.Rprop, steps=0)
    assert re.search(r"no alpha in its groups, which hold .*etas", refused(tmp_path / "rprop.pt"))


def test_an_rmsprop_without_a_step_is_not_called_healthy(tmp_path):
    saved(tmp_path / "new.pt", steps=0)
    result = call(tmp_path / "new.pt")
    assert result.exit_code == 0
    assert "nothing to judge: no tensor has had a step" in result.output
    assert "healthy" not in result.output


def test_the_rule_of_a_checkpoint_of_this_library_is_its_own(tmp_path):
    from rmsprop.torch import RMSprop

    rule = Rule(rho=0.9, var_floor=1.0, eps=1e-3)
    optimizer = RMSprop(parameters([(4, 3)]), lr=0.01, dialect=rule)
    for step in range(30):
        train(optimizer, 1, start=step)
        for param in optimizer.param_groups[0]["params"]:
            optimizer.state[param]["square_avg"].mul_(0).add_(1e-8)
    torch.save(optimizer.state_dict(), tmp_path / "own.pt")
    own = rmsprop.RMSprop({"w": np.ones((3, 3))}, lr=0.1, dialect=rule)
    for _ in range(30):
        own.step({"w": np.full((3, 3), 1e-4)})
    own.save(tmp_path / "own.safetensors")
    for name, rate in (("own.pt", 0.01), ("own.safetensors", 0.1)):
        result = call(tmp_path / name, "--json", *(["--lr", "0.1"] if rate == 0.1 else []))
        report = json.loads(result.output)
        assert report["findings"] == []
        assert report["looks"][0]["effective_lr"][2] == pytest.approx(rate / 1.001**0.5)


def test_nan_in_a_checkpoint_is_a_finding_with_the_tensor_and_the_count(tmp_path):
    optimizer = saved(tmp_path / "nan.pt", steps=1)
    square = optimizer.state[optimizer.param_groups[0]["params"][0]]["square_avg"]
    square[0] = float("nan")
    torch.save(optimizer.state_dict(), tmp_path / "nan.pt")
    result = call(tmp_path / "nan.pt")
    assert result.exit_code == 1
    assert "finding  nan: 0, step 1: NaN or infinity in 3 of 12 elements of mean_sq" in result.output
    assert "(also" not in result.output

    square[1, 1] = -1.0  # what else is wrong is refused as before
    torch.save(optimizer.state_dict(), tmp_path / "nan.pt")
    assert "mean_sq has negative elements" in refused(tmp_path / "nan.pt")


def test_a_cosine_schedule_that_ended_does_not_hide_the_start_and_has_no_picture(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    optimizer = Host(parameters([(4, 3)]), lr=0.01, alpha=0.999)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    for step in range(10):
        train(optimizer, 1, start=step)
        schedule.step()
    torch.save(optimizer.state_dict(), tmp_path / "run.pt")
    result = call(tmp_path / "run.pt", "--plot", tmp_path / "x.png")
    assert result.exit_code == 1
    assert "31.6 x lr" in result.output
    assert "x.png was not drawn: no tensor has an effective learning rate above 0" in result.output.replace("\n", " ")
    assert not (tmp_path / "x.png").exists()


def test_a_picture_in_a_folder_that_is_not_there_is_refused_before_the_work(tmp_path):
    saved(tmp_path / "run.pt", steps=1)
    stderr = refused(tmp_path / "run.pt", "--plot", tmp_path / "nowhere" / "x.png")
    assert "there is no folder" in stderr


def test_of_two_trainings_in_one_folder_the_latest_is_judged(tmp_path):
    for options, code in (({"alpha": 0.999}, 1), ({}, 0)):  # and then as the finding advised
        optimizer = Host(parameters([(4, 4)]), lr=0.01, **options)
        with watch(optimizer, every=5, to=tmp_path, budget=None, tensorboard=False):
            train(optimizer, 11)
        result = call(tmp_path)
        assert result.exit_code == code
    assert "run 2 of this folder; the runs before it are left out" in result.output
    assert "3 looks at 1 tensors" in result.output


@pytest.mark.parametrize(
    "damage",
    [{"step": "x"}, {"rule": 5}, {"rule": {"rho": 7}}, {"rule": {"rho": [1]}}, {"lr": "a"}, {"rows": None},
     {"finite": 1}, {"shape": "ab"}, {"effective_lr": [1.0]}, {"run": True}],
    ids=str,
)  # fmt: skip
def test_a_line_that_was_damaged_is_refused_by_its_number(tmp_path, damage):
    optimizer = Host(parameters([(4, 4)]), lr=0.01)
    with watch(optimizer, every=1, to=tmp_path, budget=None, tensorboard=False):
        train(optimizer, 2)
    file = tmp_path / "doctor.jsonl"
    first, second = file.read_text().splitlines()
    file.write_text(json.dumps({**json.loads(first), **damage}) + "\n" + second + "\n")
    assert "line 1: " in refused(tmp_path)
