"""Checkpoints of the torch family move: torch, timm, stable-baselines3, bitsandbytes, and this library's own file."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

import rmsprop
from checkpointing import (
    END,
    ORDER_MAP,
    RECORDED,
    STOP,
    Run,
    far,
    half,
    numpy_run,
    own_file,
    same_end,
    save,
    torch_run,
)
from rmsprop import checkpoints
from rmsprop.errors import InputError, StateError

torch = pytest.importorskip("torch", reason="torch is not installed")
from rmsprop.torch import RMSprop  # noqa: E402


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"centered": True}, {"momentum": 0.9, "centered": True}])
def test_a_torch_run_goes_on_in_this_librarys_numpy_front_end(tmp_path, options):
    run = Run.make()
    file, stop, end = half(run, lambda p: torch.optim.RMSprop(p, eps=1e-3, **options), tmp_path / "a.pt")
    rule = rmsprop.dialect("torch", eps=1e-3, **options)
    fresh = own_file(tmp_path / "fresh.safetensors", rule)
    report = checkpoints.convert(file, tmp_path / "b.safetensors", like=fresh, names=ORDER_MAP)
    assert (report.source.step, report.written.format) == (STOP, "torch")
    # v - m^2 of torch's state loses what its cancellation costs; eps = 1e-3 keeps that small.
    mine = numpy_run(run, rule, tmp_path / "b.safetensors", start=stop)
    same_end(mine, end, ulps=4096 if "centered" in options else 64)


def test_a_numpy_run_goes_on_in_torch(tmp_path):
    run = Run.make()
    rule = rmsprop.dialect("torch", momentum=0.9)
    params = {k: p.copy() for k, p in run.start.items()}
    optimizer = rmsprop.RMSprop(params, lr=0.01, dialect=rule)
    for t in range(STOP):
        optimizer.step({k: g[t] for k, g in run.grads.items()}, lr=float(run.lrs[t]))
    optimizer.save(tmp_path / "a.safetensors")
    stop = {k: p.copy() for k, p in params.items()}
    for t in range(STOP, END):
        optimizer.step({k: g[t] for k, g in run.grads.items()}, lr=float(run.lrs[t]))
    _, fresh = torch_run(run, lambda p: torch.optim.RMSprop(p, momentum=0.9), last=0)
    save(fresh, tmp_path / "fresh.pt")
    checkpoints.convert(
        tmp_path / "a.safetensors", tmp_path / "b.pt", like=tmp_path / "fresh.pt", names={"w": 0, "b": 1}
    )
    state = torch.load(tmp_path / "b.pt", weights_only=True)
    assert state["state"][0]["step"] == STOP
    assert state["state"][0]["step"].dtype == torch.float32
    mine, _ = torch_run(run, lambda p: torch.optim.RMSprop(p, momentum=0.9), first=STOP, state=state, start=stop)
    same_end(mine, params)


def test_a_recorded_timm_run_goes_on_in_this_librarys_numpy_front_end(tmp_path):
    run, end = Run.recorded("timm")
    rule = rmsprop.dialect("timm", momentum=0.9, eps=1e-3)
    fresh = own_file(tmp_path / "fresh.safetensors", rule, dtype="float32")
    report = checkpoints.convert(
        RECORDED / "timm.pt", tmp_path / "b.safetensors", like=fresh, names={"0": "w", "1": "b"}
    )
    assert (report.source.format, report.source.buffer) == ("timm", "lr")
    same_end(numpy_run(run, rule, tmp_path / "b.safetensors", start=run.start), end)


def test_a_recorded_timm_run_goes_on_in_the_torch_front_end_as_it_is():
    run, end = Run.recorded("timm")
    state = torch.load(RECORDED / "timm.pt", weights_only=True)
    mine, _ = torch_run(
        run, lambda p: RMSprop(p, dialect="timm", momentum=0.9, eps=1e-3), first=STOP, state=state, start=run.start
    )
    same_end(mine, end)


def test_a_recorded_8_bit_bitsandbytes_run_becomes_float32_and_goes_on(tmp_path):
    run, end = Run.recorded("bitsandbytes8")
    _, fresh = torch_run(run, lambda p: torch.optim.RMSprop(p, alpha=0.9), last=0)
    save(fresh, tmp_path / "fresh.pt")
    report = checkpoints.convert(RECORDED / "bitsandbytes8.pt", tmp_path / "b.pt", like=tmp_path / "fresh.pt")
    assert report.source.format == "bitsandbytes"
    assert any("widened" in note for note in report.notes)
    square = torch.load(tmp_path / "b.pt", weights_only=True)["state"][0]["square_avg"]
    assert (square.dtype, tuple(square.shape)) == (torch.float32, (80, 60))
    mine, _ = torch_run(
        run,
        lambda p: torch.optim.RMSprop(p, alpha=0.9),
        first=STOP,
        state=torch.load(tmp_path / "b.pt", weights_only=True),
        start=run.start,
    )
    # bias: kept in 32 bits by bitsandbytes too, since it has fewer than 4096 elements.
    same_end({"b": mine["b"]}, {"b": end["b"]})
    # weight: bitsandbytes quantised again at each of its five later steps. Its codes are at most .1 / 2 of the block's
    # maximum apart, and the next five squares at most that far from those of a float32 run.
    moved = np.abs(end["w"] - run.start["w"]).mean()
    assert np.abs(mine["w"] - end["w"]).mean() < 0.03 * moved


def test_8_bit_codes_of_bitsandbytes_stand_for_what_its_table_says():
    packed = torch.load(RECORDED / "bitsandbytes8.pt", weights_only=True)["state"][0]
    state = {k: v.numpy() for k, v in packed["__bnb_optimizer_quant_state__"].items()}
    square = checkpoints.read(RECORDED / "bitsandbytes8.pt").parameters[0].mean_sq.ravel()
    codes, table, maxima = state["state1"].ravel(), state["qmap1"], state["absmax1"]
    for i in (0, 255, 256, 4799):
        assert square[i] == table[codes[i]] * maxima[i // 256]


def test_a_recorded_32_bit_bitsandbytes_run_goes_on_in_torch(tmp_path):
    run, end = Run.recorded("bitsandbytes32")
    checkpoints.convert(RECORDED / "bitsandbytes32.pt", tmp_path / "b.pt", to="torch")
    state = torch.load(tmp_path / "b.pt", weights_only=True)
    assert state["param_groups"][0]["alpha"] == 0.9
    mine, _ = torch_run(run, torch.optim.RMSprop, first=STOP, state=state, start=run.start)
    same_end(mine, end)


def test_a_torch_state_is_written_as_bitsandbytes_wraps_it(tmp_path):
    run = Run.make("float32")
    file, _, _ = half(run, torch.optim.RMSprop, tmp_path / "a.pt")
    checkpoints.convert(file, tmp_path / "b.pt", like=RECORDED / "bitsandbytes32.pt")
    entry = torch.load(tmp_path / "b.pt", weights_only=True)["state"][0]
    assert entry["step"] == STOP
    assert entry["__bnb_optimizer_quant_state__"]["state1"].dtype == torch.float32
    assert set(entry) == {"step", "__bnb_optimizer_quant_state__"}


@pytest.mark.parametrize("centered", [False, True])
def test_this_librarys_8_bit_state_becomes_float32(tmp_path, centered):
    run = Run.make("float32", shapes={"w": (40, 30)})
    file, stop, _ = half(run, lambda p: RMSprop(p, state_dtype="8bit", centered=centered, eps=1e-3), tmp_path / "a.pt")
    _, optimizer = torch_run(run, lambda p: RMSprop(p, centered=centered, eps=1e-3), last=STOP)
    found = checkpoints.read(file).parameters[0]
    assert found.mean_sq.dtype == np.float32
    expected = optimizer.state_dict()["state"][0]["square_avg"].numpy()
    # Neighbouring codes differ by 2^(40/254); five stochastic roundings in a row.
    assert np.abs(np.log(found.mean_sq / expected)).max() < 5 * np.log(2 ** (40 / 254)) + 0.05
    checkpoints.convert(file, tmp_path / "b.pt", to="torch")
    torch_run(run, torch.optim.RMSprop, first=STOP, state=torch.load(tmp_path / "b.pt"), start=stop)


def test_a_centered_state_of_this_library_keeps_its_exact_variance_in_its_own_layout(tmp_path):
    run = Run.make()
    make = lambda p: RMSprop(p, centered=True, dialect="tensorflow1", momentum=0.9)  # noqa: E731
    file, stop, end = half(run, make, tmp_path / "a.pt")
    _, fresh = torch_run(run, make, last=0)
    save(fresh, tmp_path / "fresh.pt")
    checkpoints.convert(file, tmp_path / "b.pt", like=tmp_path / "fresh.pt")
    state = torch.load(tmp_path / "b.pt")
    mine, _ = torch_run(run, make, first=STOP, state=state, start=stop)
    for name in end:
        np.testing.assert_array_equal(mine[name], end[name])


def test_bias_corrected_averages_cross_as_raw_ones(tmp_path):
    run = Run.make()
    rule = rmsprop.Rule(rho=0.99, bias_correction=True)
    file, stop, end = half(run, lambda p: RMSprop(p, dialect=rule), tmp_path / "a.pt")
    raw = checkpoints.read(file).parameters[0]
    squares = sum(0.99 ** (STOP - 1 - t) * 0.01 * run.grads["w"][t] ** 2 for t in range(STOP))
    np.testing.assert_allclose(raw.mean_sq, squares, rtol=1e-12)
    fresh = own_file(tmp_path / "fresh.safetensors", rule)
    checkpoints.convert(file, tmp_path / "b.safetensors", like=fresh, names=ORDER_MAP)
    same_end(numpy_run(run, rule, tmp_path / "b.safetensors", start=stop), end)


def test_a_stable_baselines3_step_is_an_int_and_its_zip_archive_is_read_and_written(tmp_path):
    sb3 = pytest.importorskip("stable_baselines3.common.sb2_compat.rmsprop_tf_like", reason="no stable-baselines3")
    run = Run.make("float32")
    file, stop, end = half(run, lambda p: sb3.RMSpropTFLike(p, momentum=0.9), tmp_path / "a.pth")
    archive = tmp_path / "model.zip"
    with zipfile.ZipFile(archive, "w") as new:
        new.writestr("data", "{}")
        new.write(file, "policy.optimizer.pth")
    found = checkpoints.read(archive)
    assert (found.format, found.step, found.buffer) == ("sb3", STOP, "unit")
    checkpoints.convert(archive, tmp_path / "b.pt", to="torch")
    state = torch.load(tmp_path / "b.pt", weights_only=True)
    mine, _ = torch_run(run, lambda p: RMSprop(p, dialect="sb3", momentum=0.9), first=STOP, state=state, start=stop)
    same_end(mine, end)
    checkpoints.convert(tmp_path / "b.pt", tmp_path / "back.zip", to="sb3", like=archive)
    with zipfile.ZipFile(tmp_path / "back.zip") as back:
        assert back.namelist() == ["data", "policy.optimizer.pth"]
    again = checkpoints.read(tmp_path / "back.zip")
    np.testing.assert_array_equal(again.parameters[0].mean_sq, found.parameters[0].mean_sq)


def test_step_is_an_int_for_stable_baselines3(tmp_path):
    file, _, _ = half(Run.make("float32"), torch.optim.RMSprop, tmp_path / "a.pt")
    checkpoints.convert(file, tmp_path / "b.pt", to="sb3")
    assert type(torch.load(tmp_path / "b.pt", weights_only=True)["state"][0]["step"]) is int


def test_parameter_groups_survive_with_their_numbers(tmp_path):
    run = Run.make()

    def make(params):
        return torch.optim.RMSprop([{"params": params[:1], "lr": 0.1}, {"params": params[1:], "alpha": 0.5}])

    _, optimizer = torch_run(run, make, last=STOP)
    save(optimizer, tmp_path / "a.pt")
    checkpoints.convert(tmp_path / "a.pt", tmp_path / "b.pt", to="torch")
    groups = torch.load(tmp_path / "b.pt", weights_only=True)["param_groups"]
    assert [group["params"] for group in groups] == [[0], [1]]
    assert [group["alpha"] for group in groups] == [0.99, 0.5]


def test_a_state_deep_in_a_training_checkpoint_is_found_and_the_rest_of_it_kept(tmp_path):
    run = Run.make()
    _, optimizer = torch_run(run, torch.optim.RMSprop, last=STOP)
    torch.save({"epoch": 3, "optimizer_states": [optimizer.state_dict()]}, tmp_path / "a.ckpt")
    assert checkpoints.read(tmp_path / "a.ckpt").step == STOP
    file, _, _ = half(run, torch.optim.RMSprop, tmp_path / "b.pt")
    checkpoints.convert(file, tmp_path / "c.ckpt", like=tmp_path / "a.ckpt")
    assert torch.load(tmp_path / "c.ckpt", weights_only=True)["epoch"] == 3


def test_of_several_optimizers_one_is_chosen(tmp_path):
    run = Run.make()
    _, g = torch_run(run, torch.optim.RMSprop, last=2)
    _, d = torch_run(run, torch.optim.RMSprop, last=3)
    torch.save({"g": g.state_dict(), "d": d.state_dict()}, tmp_path / "gan.pt")
    with pytest.raises(InputError, match="several optimizer states; choose one with --at: g, d"):
        checkpoints.read(tmp_path / "gan.pt")
    assert checkpoints.read(tmp_path / "gan.pt", at="d").step == 3
    with pytest.raises(InputError, match="no optimizer state at 'x'"):
        checkpoints.read(tmp_path / "gan.pt", at="x")


def test_a_parameter_without_a_step_starts_as_the_target_starts(tmp_path):
    params = [torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(3))]
    optimizer = torch.optim.RMSprop(params)
    params[0].sum().backward()
    optimizer.step()
    save(optimizer, tmp_path / "a.pt")
    with pytest.raises(StateError, match="no step has touched it and its shape is not known"):
        checkpoints.convert(tmp_path / "a.pt", tmp_path / "b.msgpack", to="optax", names={"0": "w", "1": "b"})
    rule = rmsprop.dialect("tensorflow1")
    fresh = own_file(tmp_path / "fresh.safetensors", rule, dtype="float32", shapes={"w": (2,), "b": (3,)})
    checkpoints.convert(tmp_path / "a.pt", tmp_path / "b.safetensors", like=fresh, names=ORDER_MAP)
    found = {p.name: p.mean_sq for p in checkpoints.read(tmp_path / "b.safetensors").parameters}
    np.testing.assert_array_equal(found["b"], np.ones(3))
    np.testing.assert_allclose(found["w"], [0.01, 0.01])


def test_complex_statistics_stay_in_torch(tmp_path):
    param = torch.nn.Parameter(torch.tensor([3 + 4j, 1j]))
    optimizer = torch.optim.RMSprop([param])
    param.grad = torch.tensor([3 + 4j, 1j])
    optimizer.step()
    save(optimizer, tmp_path / "a.pt")
    checkpoints.convert(tmp_path / "a.pt", tmp_path / "b.pt", to="torch")
    kept = torch.load(tmp_path / "b.pt", weights_only=True)["state"][0]["square_avg"]
    assert torch.equal(kept, optimizer.state[param]["square_avg"])
    with pytest.raises(StateError, match="complex64; optax keeps it otherwise"):
        checkpoints.convert(tmp_path / "a.pt", tmp_path / "b.msgpack", to="optax", names=["0"])


def test_a_buffer_changes_its_kind_by_lr_which_is_exact_while_lr_is_constant(tmp_path):
    run = Run.make(constant=True)
    file, stop, end = half(run, lambda p: torch.optim.RMSprop(p, momentum=0.9), tmp_path / "a.pt")
    rule = rmsprop.dialect("torch", momentum=0.9).replace(buffer="lr")
    fresh = own_file(tmp_path / "fresh.safetensors", rule)
    checkpoints.convert(file, tmp_path / "b.safetensors", like=fresh, names=ORDER_MAP, lr=0.01)
    mine = numpy_run(run, rule, tmp_path / "b.safetensors", start=stop)
    same_end(mine, end)
    checkpoints.convert(file, tmp_path / "c.safetensors", like=fresh, names=ORDER_MAP, lr=0.02)
    assert far(numpy_run(run, rule, tmp_path / "c.safetensors", start=stop), end)


def test_a_buffer_of_another_kind_asks_for_lr_and_says_what_the_file_says(tmp_path):
    with pytest.raises(StateError, match=r"momentum_buf: .* lr inside.*give --lr.*the file says lr 0\.006"):
        checkpoints.convert(RECORDED / "timm.pt", tmp_path / "b.pt", to="torch")
    assert not (tmp_path / "b.pt").exists()
    with pytest.raises(StateError, match="lr: 0, expected more than 0"):
        checkpoints.convert(RECORDED / "timm.pt", tmp_path / "b.pt", to="torch", lr=0.0)
    report = checkpoints.convert(RECORDED / "timm.pt", tmp_path / "b.pt", to="torch", lr=0.01)
    mine, theirs = report.written.parameters[0], report.source.parameters[0]
    np.testing.assert_allclose(mine.momentum_buf, theirs.momentum_buf / 0.01, rtol=1e-6)


def test_a_buffer_is_left_out_when_that_is_asked_for(tmp_path):
    report = checkpoints.convert(RECORDED / "timm.pt", tmp_path / "b.pt", to="torch", buffer="none")
    assert "momentum_buf" not in report.written.statistics
    assert any("left out" in note for note in report.notes)
    assert torch.load(tmp_path / "b.pt", weights_only=True)["param_groups"][0]["momentum"] == 0.0


def test_a_target_with_momentum_starts_its_buffer_at_zero(tmp_path):
    run = Run.make()
    file, _, _ = half(run, torch.optim.RMSprop, tmp_path / "a.pt")
    _, fresh = torch_run(run, lambda p: torch.optim.RMSprop(p, momentum=0.9), last=0)
    save(fresh, tmp_path / "fresh.pt")
    report = checkpoints.convert(file, tmp_path / "b.pt", like=tmp_path / "fresh.pt")
    assert not report.written.parameters[0].momentum_buf.any()
    assert any("starts at 0" in note for note in report.notes)


def test_eps_is_not_converted_and_that_is_said(tmp_path):
    report = checkpoints.convert(RECORDED / "timm.pt", tmp_path / "b.pt", to="torch", lr=0.01)
    assert any("timm has it inside the root, the target outside" in note for note in report.notes)
    assert torch.load(tmp_path / "b.pt", weights_only=True)["param_groups"][0]["eps"] == 1e-3
