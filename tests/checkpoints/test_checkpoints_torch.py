"""Checkpoints of the torch family: torch, timm, stable-baselines3, bitsandbytes, and this library's own file."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

import rmsprop
from checkpointing import (
    RECORDED,
    STOP,
    TO_NAMES,
    Run,
    assert_same_end,
    continue_in_numpy,
    continue_in_torch,
    is_far,
    load_torch,
    run_torch,
    save_fresh,
    save_torch,
    stop_torch,
)
from rmsprop import checkpoints
from rmsprop.errors import InputError, StateError

torch = pytest.importorskip("torch", reason="torch is not installed")
from rmsprop.torch import RMSprop  # noqa: E402

TIMM = RECORDED / "timm.pt"


def make_torch(**options):
    return lambda params: torch.optim.RMSprop(params, **options)


def make_own(**options):
    return lambda params: RMSprop(params, **options)


# ---- runs that continue elsewhere ----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"centered": True}, {"momentum": 0.9, "centered": True}])
def test_a_torch_run_continues_in_numpy_and_back(tmp_path, options):
    run = Run.make()
    make = make_torch(eps=1e-3, **options)
    file, stop, end = stop_torch(run, make, tmp_path / "a.pt")
    rule = rmsprop.dialect("torch", eps=1e-3, **options)
    mine, report = continue_in_numpy(tmp_path, run, rule, file, stop, names=TO_NAMES)
    assert (report.source.format, report.source.step) == ("torch", STOP)
    # v - m^2 of torch's state loses what its cancellation costs; eps = 1e-3 keeps that small.
    assert_same_end(mine, end, ulps=4096 if "centered" in options else 64)
    mine, _ = continue_in_torch(tmp_path, run, make, tmp_path / "own.safetensors", stop, names={"w": 0, "b": 1})
    assert_same_end(mine, end)
    step = load_torch(tmp_path / "own.pt")["state"][0]["step"]
    assert (step, step.dtype) == (STOP, torch.float32)


def test_a_timm_run_continues_here():
    run, end = Run.load("timm")
    make = make_own(dialect="timm", momentum=0.9, eps=1e-3)
    assert_same_end(run_torch(run, make, first=STOP, state=load_torch(TIMM), start=run.start)[0], end)


def test_a_timm_run_continues_in_numpy(tmp_path):
    run, end = Run.load("timm")
    rule = rmsprop.dialect("timm", momentum=0.9, eps=1e-3)
    mine, report = continue_in_numpy(tmp_path, run, rule, TIMM, run.start, names=TO_NAMES)
    assert (report.source.format, report.source.buffer) == ("timm", "lr")
    assert_same_end(mine, end)


def test_an_8_bit_bitsandbytes_run_continues_in_torch_as_float32(tmp_path):
    run, end = Run.load("bitsandbytes8")
    make = make_torch(alpha=0.9)
    mine, report = continue_in_torch(tmp_path, run, make, RECORDED / "bitsandbytes8.pt", run.start)
    assert report.source.format == "bitsandbytes"
    assert any("widened" in note for note in report.notes)
    square = load_torch(tmp_path / "own.pt")["state"][0]["square_avg"]
    assert (square.dtype, tuple(square.shape)) == (torch.float32, (80, 60))
    # bitsandbytes keeps b in 32 bits too, as it has fewer than 4096 elements.
    assert_same_end({"b": mine["b"]}, {"b": end["b"]})
    # bitsandbytes quantized w again at each of its five later steps. Its codes are at most .1 / 2 of the block's
    # maximum apart, and the next five squares at most that far from those of a float32 run.
    moved = np.abs(end["w"] - run.start["w"]).mean()
    assert np.abs(mine["w"] - end["w"]).mean() < 0.03 * moved


def test_8_bit_codes_of_bitsandbytes_have_the_values_of_its_table():
    packed = load_torch(RECORDED / "bitsandbytes8.pt")["state"][0]["__bnb_optimizer_quant_state__"]
    codes, table, maxima = (packed[key].numpy().ravel() for key in ("state1", "qmap1", "absmax1"))
    square = checkpoints.read(RECORDED / "bitsandbytes8.pt").parameters[0].mean_sq.ravel()
    for i in (0, 255, 256, 4799):
        assert square[i] == table[codes[i]] * maxima[i // 256]


def test_codes_that_overflow_raise_without_a_warning(tmp_path):
    tree = load_torch(RECORDED / "bitsandbytes8.pt")
    packed = tree["state"][0]["__bnb_optimizer_quant_state__"]
    for key in ("qmap1", "absmax1"):
        packed[key].fill_(3e38)
    with pytest.raises(StateError, match="NaN or infinite"):
        checkpoints.read(save_torch(tree, tmp_path / "a.pt"))


def test_a_32_bit_bitsandbytes_run_continues_in_torch(tmp_path):
    run, end = Run.load("bitsandbytes32")
    mine, _ = continue_in_torch(
        tmp_path, run, torch.optim.RMSprop, RECORDED / "bitsandbytes32.pt", run.start, to="torch"
    )
    assert_same_end(mine, end)  # also with bitsandbytes' decay, 0.9


def test_a_torch_state_is_written_as_bitsandbytes_wraps_it(tmp_path):
    file, _, _ = stop_torch(Run.make("float32"), torch.optim.RMSprop, tmp_path / "a.pt")
    checkpoints.convert(file, tmp_path / "b.pt", like=RECORDED / "bitsandbytes32.pt")
    entry = load_torch(tmp_path / "b.pt")["state"][0]
    assert entry.pop("step") == STOP
    assert entry.pop("__bnb_optimizer_quant_state__")["state1"].dtype == torch.float32
    assert entry == {}


@pytest.mark.parametrize("centered", [False, True])
def test_the_8_bit_state_of_rmsprop_torch_becomes_float32(tmp_path, centered):
    run = Run.make("float32", shapes={"w": (40, 30)})
    options = {"centered": centered, "eps": 1e-3}
    file, stop, _ = stop_torch(run, make_own(state_dtype="8bit", **options), tmp_path / "a.pt")
    _, optimizer = run_torch(run, make_own(**options), last=STOP)
    found = checkpoints.read(file).parameters[0].mean_sq
    assert found.dtype == np.float32
    expected = optimizer.state_dict()["state"][0]["square_avg"].numpy()
    # Neighboring codes differ by 2^(40/254); five stochastic roundings in a row.
    assert np.abs(np.log(found / expected)).max() < 5 * np.log(2 ** (40 / 254)) + 0.05
    continue_in_torch(tmp_path, run, torch.optim.RMSprop, file, stop, to="torch")


def test_the_variance_of_a_centered_rmsprop_torch_state_stays_exact(tmp_path):
    run = Run.make()
    make = make_own(centered=True, dialect="tensorflow1", momentum=0.9)
    file, stop, end = stop_torch(run, make, tmp_path / "a.pt")
    mine, _ = continue_in_torch(tmp_path, run, make, file, stop)
    for name in end:
        np.testing.assert_array_equal(mine[name], end[name])


@pytest.mark.parametrize("centered", [False, True])
def test_corrected_averages_are_read_as_raw_ones_and_written_as_corrected_ones(tmp_path, centered):
    run = Run.make()
    rule = rmsprop.Rule(rho=0.99, bias_correction=True, centered=centered, eps=1e-3)
    make = make_own(dialect=rule)
    file, stop, end = stop_torch(run, make, tmp_path / "a.pt")
    squares = sum(0.99 ** (STOP - 1 - t) * 0.01 * run.grads["w"][t] ** 2 for t in range(STOP))
    np.testing.assert_allclose(checkpoints.read(file).parameters[0].mean_sq, squares, rtol=1e-12)
    for step in (continue_in_numpy, continue_in_torch):
        rule_or_make, names = (rule, TO_NAMES) if step is continue_in_numpy else (make, None)
        mine, _ = step(tmp_path, run, rule_or_make, file, stop, names=names)
        assert_same_end(mine, end, ulps=4096 if centered else 64)


def test_a_stable_baselines3_archive_is_read_and_written(tmp_path):
    sb3 = pytest.importorskip("stable_baselines3.common.sb2_compat.rmsprop_tf_like", reason="no stable-baselines3")
    run = Run.make("float32")
    file, stop, end = stop_torch(run, lambda p: sb3.RMSpropTFLike(p, momentum=0.9), tmp_path / "a.pth")
    archive = tmp_path / "model.zip"
    with zipfile.ZipFile(archive, "w") as new:
        new.writestr("data", "{}")
        new.write(file, "policy.optimizer.pth")
    found = checkpoints.read(archive)
    assert (found.format, found.step, found.buffer) == ("sb3", STOP, "unit")
    make = make_own(dialect="sb3", momentum=0.9)
    mine, _ = continue_in_torch(tmp_path, run, make, archive, stop, to="torch")
    assert_same_end(mine, end)
    checkpoints.convert(tmp_path / "own.pt", tmp_path / "back.zip", to="sb3", like=archive)
    with zipfile.ZipFile(tmp_path / "back.zip") as back:
        assert back.namelist() == ["data", "policy.optimizer.pth"]
    again = checkpoints.read(tmp_path / "back.zip")
    np.testing.assert_array_equal(again.parameters[0].mean_sq, found.parameters[0].mean_sq)


def test_an_old_torch_shares_the_layout_of_stable_baselines3_whose_step_is_an_int(tmp_path):
    file, _, _ = stop_torch(Run.make("float32"), torch.optim.RMSprop, tmp_path / "a.pt")
    checkpoints.convert(file, tmp_path / "b.pt", to="sb3")
    assert type(load_torch(tmp_path / "b.pt")["state"][0]["step"]) is int
    assert checkpoints.read(tmp_path / "b.pt", "sb3").format == "sb3"
    assert checkpoints.read(tmp_path / "b.pt", "torch").init == 0.0


# ---- what else a file holds ----------------------------------------------------------------------------------------


def test_parameter_groups_keep_their_numbers(tmp_path):
    groups = lambda p: [{"params": p[:1], "lr": 0.1}, {"params": p[1:], "alpha": 0.5}]  # noqa: E731
    _, optimizer = run_torch(Run.make(), lambda p: torch.optim.RMSprop(groups(p)), last=STOP)
    checkpoints.convert(save_torch(optimizer, tmp_path / "a.pt"), tmp_path / "b.pt", to="torch")
    found = load_torch(tmp_path / "b.pt")["param_groups"]
    assert [(group["params"], group["alpha"]) for group in found] == [([0], 0.99), ([1], 0.5)]


def test_a_state_inside_a_training_checkpoint_is_found_and_the_rest_is_kept(tmp_path):
    run = Run.make()
    _, optimizer = run_torch(run, torch.optim.RMSprop, last=STOP)
    deep = save_torch({"epoch": 3, "optimizer_states": [optimizer.state_dict()]}, tmp_path / "a.ckpt")
    assert checkpoints.read(deep).step == STOP
    file, _, _ = stop_torch(run, torch.optim.RMSprop, tmp_path / "b.pt")
    checkpoints.convert(file, tmp_path / "c.ckpt", like=deep)
    assert load_torch(tmp_path / "c.ckpt")["epoch"] == 3


def test_the_user_chooses_among_several_optimizers(tmp_path):
    states = [run_torch(Run.make(), torch.optim.RMSprop, last=steps)[1].state_dict() for steps in (2, 3)]
    file = save_torch(dict(zip("gd", states)), tmp_path / "gan.pt")
    with pytest.raises(InputError, match="several optimizer states; choose one with --at: g, d"):
        checkpoints.read(file)
    assert checkpoints.read(file, at="d").step == 3
    with pytest.raises(InputError, match="at: no optimizer state at 'x'"):
        checkpoints.read(file, at="x")


def test_a_parameter_without_a_step_starts_as_the_target_starts(tmp_path):
    params = [torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(3))]
    optimizer = torch.optim.RMSprop(params)
    params[0].sum().backward()
    optimizer.step()
    file = save_torch(optimizer, tmp_path / "a.pt")
    with pytest.raises(StateError, match="parameter 'b': no step yet"):
        checkpoints.convert(file, tmp_path / "b.msgpack", to="optax", names=TO_NAMES)
    fresh = save_fresh(tmp_path / "f", rmsprop.dialect("tensorflow1"), dtype="float32", shapes={"w": 2, "b": 3})
    checkpoints.convert(file, tmp_path / "b.safetensors", like=fresh, names=TO_NAMES)
    found = {p.name: p.mean_sq for p in checkpoints.read(tmp_path / "b.safetensors").parameters}
    np.testing.assert_array_equal(found["b"], np.ones(3))
    np.testing.assert_allclose(found["w"], [0.01, 0.01])


def test_complex_statistics_stay_in_torch(tmp_path):
    param = torch.nn.Parameter(torch.tensor([3 + 4j, 1j]))
    optimizer = torch.optim.RMSprop([param], centered=True)
    param.grad = torch.tensor([3 + 4j, 1j])
    optimizer.step()
    file = save_torch(optimizer, tmp_path / "a.pt")
    checkpoints.convert(file, tmp_path / "b.pt", to="torch")
    assert torch.equal(load_torch(tmp_path / "b.pt")["state"][0]["square_avg"], optimizer.state[param]["square_avg"])
    found = checkpoints.read(file).parameters[0]
    np.testing.assert_allclose(found.variance, 0.01 * 0.99 * np.array([9 + 16j, 1j]), rtol=1e-5)
    with pytest.raises(StateError, match="complex64; optax"):
        checkpoints.convert(file, tmp_path / "b.msgpack", to="optax", names=["0"])


# ---- momentum and eps ----------------------------------------------------------------------------------------------


def test_a_buffer_is_converted_by_lr_which_is_exact_while_lr_is_constant(tmp_path):
    run = Run.make(constant=True)
    file, stop, end = stop_torch(run, make_torch(momentum=0.9), tmp_path / "a.pt")
    rule = rmsprop.dialect("torch", momentum=0.9).replace(buffer="lr")
    assert_same_end(continue_in_numpy(tmp_path, run, rule, file, stop, names=TO_NAMES, lr=0.01)[0], end)
    assert is_far(continue_in_numpy(tmp_path, run, rule, file, stop, names=TO_NAMES, lr=0.02)[0], end)


def test_a_buffer_of_another_kind_asks_for_lr(tmp_path):
    with pytest.raises(StateError, match=r"momentum_buf: .* lr inside.*give --lr.*the file says lr 0\.006"):
        checkpoints.convert(TIMM, tmp_path / "b.pt", to="torch")
    with pytest.raises(StateError, match="lr: 0, expected more than 0"):
        checkpoints.convert(TIMM, tmp_path / "b.pt", to="torch", lr=0.0)
    assert not (tmp_path / "b.pt").exists()
    report = checkpoints.convert(TIMM, tmp_path / "b.pt", to="torch", lr=0.01)
    mine, theirs = report.written.parameters[0], report.source.parameters[0]
    np.testing.assert_allclose(mine.momentum_buf, theirs.momentum_buf / 0.01, rtol=1e-6)
    assert any("timm has it inside the root, the target outside" in note for note in report.notes)
    assert load_torch(tmp_path / "b.pt")["param_groups"][0]["eps"] == 1e-3


def test_a_buffer_is_left_out_on_request(tmp_path):
    report = checkpoints.convert(TIMM, tmp_path / "b.pt", to="torch", buffer="none")
    assert "momentum_buf" not in report.written.statistics
    assert any("the momentum buffer was left out" in note for note in report.notes)
    assert load_torch(tmp_path / "b.pt")["param_groups"][0]["momentum"] == 0.0


def test_a_target_that_keeps_a_buffer_starts_it_at_zero_on_request(tmp_path):
    fresh = save_torch(run_torch(Run.make("float32"), make_torch(momentum=0.9), last=0)[1], tmp_path / "fresh.pt")
    for options in ({"like": fresh}, {"to": "paddle", "names": TO_NAMES}):
        report = checkpoints.convert(TIMM, tmp_path / "b", buffer="none", force=True, **options)
        assert not any(p.arrays.get("momentum_buf", np.zeros(1)).any() for p in report.written.parameters)
        assert report.source.parameters[0].momentum_buf.any()
    assert checkpoints.read(tmp_path / "b", "paddle").statistics == ("mean_sq", "momentum_buf")
    with pytest.raises(InputError, match="buffer: 'lr', but the buffer of like is 'unit'"):
        checkpoints.convert(TIMM, tmp_path / "c.pt", like=fresh, buffer="lr")


def test_a_target_with_momentum_starts_its_buffer_at_zero(tmp_path):
    run = Run.make()
    file, stop, _ = stop_torch(run, torch.optim.RMSprop, tmp_path / "a.pt")
    _, report = continue_in_torch(tmp_path, run, make_torch(momentum=0.9), file, stop)
    assert not report.written.parameters[0].momentum_buf.any()
    assert any("starts at 0" in note for note in report.notes)
