"""`rmsprop.doctor.watch` on PyTorch optimizers: when it looks, what it writes, and that it changes nothing."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy
import pytest

from rmsprop.doctor import Look, read, watch, writers
from rmsprop.errors import FileError, InputError, InputTypeError, MissingDependency, RMSpropWarning

torch = pytest.importorskip("torch", reason="torch is not installed")

from rmsprop.doctor import torch as watching_torch  # noqa: E402
from rmsprop.torch import RMSprop  # noqa: E402
from torching import Host, assert_same_bits, draw_grads, parameters, train  # noqa: E402

MAKERS = {"torch": Host, "here": RMSprop}


def steps_of(folder):
    return sorted({look.step for look in read(folder)})


# ---- looking ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"centered": True}, {"weight_decay": 0.1}], ids=str)
def test_watching_changes_no_bit_of_a_training(make, options):
    alone, watched = (make(parameters(), lr=1e-3, **options) for _ in range(2))
    train(alone, 6)
    with watch(watched, every=2, budget=None) as watching:
        train(watched, 6)
    assert_same_bits(alone, watched)
    assert len(watching.looks) == 5


@pytest.mark.parametrize("state_dtype", ["bfloat16", "8bit"])
@pytest.mark.parametrize("centered", [False, True])
def test_narrow_states_are_read(state_dtype, centered):
    optimizer = RMSprop(parameters(), lr=1e-3, state_dtype=state_dtype, centered=centered)
    wide = RMSprop(parameters(), lr=1e-3, centered=centered)
    with watch(optimizer, budget=None, every=5) as watching, watch(wide, budget=None, every=5) as beside:
        train(optimizer, 10)
        train(wide, 10)
    for name, look in watching.looks.items():
        assert look.root_mean_sq == pytest.approx(beside.looks[name].root_mean_sq, rel=0.05)


def test_our_numbers_are_those_of_torch():
    looks = []
    for make in MAKERS.values():
        optimizer = make(parameters(), lr=1e-3, momentum=0.5, centered=True)
        with watch(optimizer, every=5, budget=None) as watching:
            train(optimizer, 10)
        looks.append(watching.looks)
    for name, look in looks[0].items():
        other = looks[1][name]
        for field in ("effective_lr", "root_mean_sq", "update_to_weight", "decoupling", "step_over_lr", "grad_rms"):
            mine, theirs = getattr(look, field), getattr(other, field)
            assert mine == (None if theirs is None else pytest.approx(theirs, rel=1e-4))


def test_it_looks_at_the_first_step_and_at_every_so_many(tmp_path):
    optimizer = Host(parameters(), lr=1e-3)
    with watch(optimizer, every=4, to=tmp_path, budget=None, tensorboard=False):
        train(optimizer, 13)
    assert steps_of(tmp_path) == [1, 4, 8, 12]
    train(optimizer, 7, start=13)  # closed
    assert steps_of(tmp_path) == [1, 4, 8, 12]


def test_a_look_waits_while_looks_have_cost_more_than_the_budget(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("rmsprop.doctor.watching.time", SimpleNamespace(perf_counter=lambda: now[0]))
    measured = watching_torch.measure

    def slow(sample):
        now[0] += 1.0  # a second for a look at the one tensor
        return measured(sample)

    monkeypatch.setattr(watching_torch, "measure", slow)
    optimizer = Host(parameters([(3,)]), lr=1e-3)

    def second(step):
        now[0] += 1.0

    with watch(optimizer, every=10, to=tmp_path, budget=0.01, tensorboard=False) as watching:
        train(optimizer, 450, each=second)
    # At step n the clock says n and a second for each look before. A look counts twice: one is paid for at 200 s, two
    # at 400 s.
    assert steps_of(tmp_path) == [1, 200 - 1, 400 - 2]
    assert watching.spent == 3.0


def test_tensors_have_the_names_of_the_model_the_group_or_their_position():
    model = torch.nn.Linear(3, 2)

    def names(optimizer, **options):
        with watch(optimizer, **options) as watching:
            train(optimizer, 1)
        return set(watching.looks)

    assert names(Host(model.parameters())) == {"0", "1"}
    assert names(Host(model.named_parameters())) == {"weight", "bias"}
    assert names(Host(model.parameters()), names=model) == {"weight", "bias"}
    assert names(Host(model.parameters()), names=model.named_parameters(prefix="net")) == {"net.weight", "net.bias"}
    assert names(Host([{"params": [model.weight]}, {"params": [model.bias]}])) == {"0", "1"}


def test_numbers_of_each_group_and_a_schedule_are_seen():
    params = parameters([(3,), (4,)])
    optimizer = Host([{"params": params[:1], "lr": 0.1}, {"params": params[1:], "alpha": 0.5}], lr=0.01)
    with watch(optimizer, every=1, budget=None) as watching:
        train(optimizer, 1)
        optimizer.param_groups[0]["lr"] = torch.tensor(0.05)
        train(optimizer, 1, start=1)
    assert watching.looks["0"].lr == pytest.approx(0.05)
    assert watching.looks["1"].rule["rho"] == 0.5


def test_sparse_complex_and_strided_tensors_are_looked_at():
    table = torch.nn.Embedding(2000, 8, sparse=True)
    turned = torch.nn.Parameter(torch.randn(100, 90).t())
    whirled = torch.nn.Parameter(torch.randn(5, dtype=torch.complex64))
    optimizer = RMSprop([table.weight, turned, whirled], lr=1e-3)
    with watch(optimizer, every=1, budget=None) as watching:
        table(torch.arange(100)).sum().backward()
        turned.grad, whirled.grad = torch.randn(90, 100), torch.randn(5, dtype=torch.complex64)
        optimizer.step()
    assert set(watching.looks) == {"0", "1", "2"}
    assert watching.looks["1"].step_over_lr == pytest.approx(10, rel=1e-3)  # 1 / sqrt(1 - 0.99)


def test_a_step_that_mixed_precision_skips_is_not_looked_at():
    optimizer = RMSprop(parameters([(3,)]), lr=1e-3)
    with watch(optimizer, every=1, budget=None) as watching:
        optimizer.found_inf = torch.tensor(1.0)
        train(optimizer, 1)
        assert watching.looks == {}
        optimizer.found_inf, optimizer.grad_scale = torch.tensor(0.0), torch.tensor(1024.0)
        draw_grads([p for g in optimizer.param_groups for p in g["params"]], 5)
        param = optimizer.param_groups[0]["params"][0]
        rms = float(param.grad.square().mean().sqrt())
        param.grad *= 1024
        optimizer.step()
    assert watching.looks["0"].grad_rms == pytest.approx(rms)


def closure_of(optimizer, loss):
    def closure():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    return closure


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_the_gradient_of_a_closure_is_that_of_its_own_step(make):
    (param,) = parameters([(4, 4)])
    optimizer = make([param], lr=1e-3)
    seen = []
    with watch(optimizer, every=1, budget=None) as watching:
        for size in (1.0, 2.0, 4.0):
            optimizer.step(closure_of(optimizer, lambda size=size: size * param.sum()))
            seen.append(watching.looks["0"].grad_rms)
    assert seen == [1.0, 2.0, 4.0]


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_tensor_that_a_closure_leaves_out_is_left_out(make):
    used, unused = parameters([(4, 4), (3,)])
    optimizer = make([used, unused], lr=1e-3)
    unused.grad = torch.ones(3)  # of before; the closure takes it away
    with watch(optimizer, every=1, budget=None) as watching:
        optimizer.step(closure_of(optimizer, used.sum))
    assert set(watching.looks) == {"0"}


def test_a_closure_that_raises_leaves_nothing_behind():
    (param,) = parameters([(4, 4)])
    optimizer = Host([param], lr=1e-3)

    def broken():
        raise ZeroDivisionError

    draw_grads([param], 0)
    with watch(optimizer, every=1000, budget=None) as watching:
        with pytest.raises(ZeroDivisionError):
            optimizer.step(broken)  # the first step, which was to be looked at
        with torch.no_grad():
            param += 100.0
        train(optimizer, 1)
    assert watching.looks == {}


def test_a_step_that_is_due_twice_is_looked_at_once(tmp_path):
    optimizer = Host(parameters([(3,)]), lr=1e-6, momentum=0.937)  # whose longest first step is the 18th
    with watch(optimizer, every=18, to=tmp_path, budget=None, tensorboard=False):
        train(optimizer, 54)
    assert steps_of(tmp_path) == [1, 18, 36, 54]


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("maximize", [False, True])
def test_weight_decay_is_added_to_the_gradient_that_the_rule_descends(make, maximize):
    (param,) = parameters([(4, 4)])
    optimizer = make([param], lr=1e-3, alpha=0.0, weight_decay=0.5, maximize=maximize)
    with watch(optimizer, every=1, budget=None) as watching:
        train(optimizer, 1)
    look = watching.looks["0"]
    assert look.grad_rms == pytest.approx(look.root_mean_sq, rel=1e-6)  # with alpha 0 mean_sq is that gradient's square


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_large_gradients_that_are_finite_are_not_called_nan(make):
    from rmsprop.doctor.gather import all_finite

    grad = torch.full((100,), 1e37)  # whose sum is not a float32
    assert all_finite(grad)
    assert not all_finite(grad.index_fill(0, torch.tensor([7]), torch.inf))
    (param,) = parameters([(100,)])
    optimizer = make([param], lr=1e-3)
    with watch(optimizer, every=1, budget=None) as watching:
        param.grad = grad
        optimizer.step()
    held = bool(optimizer.state[param]["square_avg"].isfinite().all())  # not torch's, whose square overflows
    assert watching.looks["0"].not_finite == ("" if held else "mean_sq")


def test_what_is_gathered_of_a_large_tensor_is_what_the_whole_holds():
    from rmsprop.doctor.gather import square, taken
    from rmsprop.doctor.sample import grid
    from rmsprop.torch.state import read_square

    for turned in (False, True):
        value = torch.randn(300, 200, generator=torch.Generator().manual_seed(3))
        param = torch.nn.Parameter(value.t() if turned else value)
        chosen = grid(param.shape)
        index = torch.from_numpy(chosen.flat())
        for options in ({}, {"state_dtype": "bfloat16"}, {"state_dtype": "8bit"}):
            for centered in (False, True):
                optimizer = RMSprop([param], lr=1e-3, centered=centered, **options)
                train(optimizer, 3)
                state = optimizer.state[param]
                key = "grad_var" if centered else "square_avg"
                whole = read_square(state, key, param).float()
                if centered:
                    assert (square(state, param, chosen, index, key=key) == chosen.take(whole.numpy())).all()
                    whole = whole + state["grad_avg"].float() ** 2
                assert (square(state, param, chosen, index) == chosen.take(whole.numpy())).all()
        assert (taken(param.grad, chosen, index) == chosen.take(param.grad.numpy())).all()


@pytest.mark.parametrize("count", [0, 2, 800])
@pytest.mark.parametrize("shape", [(50_000, 8), (20, 3), (40, 3, 4), (9_000,)], ids=str)
def test_rows_of_a_sparse_gradient_are_found_without_a_dense_copy(shape, count, monkeypatch):
    from rmsprop.doctor.gather import all_finite, taken
    from rmsprop.doctor.sample import grid

    rows = torch.randint(shape[0], (count,), generator=torch.Generator().manual_seed(0))  # some come twice
    values = torch.randint(-9, 9, (count, *shape[1:])).float()  # whose sums have no rounding
    grad = torch.sparse_coo_tensor(rows[None], values, shape, check_invariants=True)
    dense, chosen = grad.to_dense(), grid(shape)
    monkeypatch.setattr(torch.Tensor, "to_dense", None)
    index = None if chosen.whole else torch.from_numpy(chosen.flat())
    assert (taken(grad, chosen, index) == chosen.take(dense.numpy())).all()
    assert all_finite(grad)


def test_a_nan_in_a_row_that_a_sparse_gradient_stepped_is_found():
    table = torch.nn.Embedding(3000, 8, sparse=True)
    optimizer = RMSprop(table.parameters(), lr=1e-3, lazy=True)
    with watch(optimizer, every=1, budget=None) as watching:
        for row in (1, 2):
            optimizer.zero_grad()
            table(torch.arange(4)).sum().backward()
            table.weight.data[row, 3] = float("nan") if row == 2 else 0.0
            optimizer.step()
    assert [(finding.kind, finding.step) for finding in watching.findings] == [("nan", 2)]


@pytest.mark.parametrize("options", [{"state_dtype": "8bit"}, {"centered": True}, {"state_dtype": "bfloat16"}], ids=str)
def test_a_look_converts_what_it_looks_at_alone(options):
    (param,) = parameters([(2000, 500)])
    optimizer = RMSprop([param], lr=1e-3, **options)
    train(optimizer, 2)
    made = []

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            if torch.is_tensor(out) and not any(torch.is_tensor(x) and x.data_ptr() == out.data_ptr() for x in args):
                made.append(out.numel())
            return out

    with watch(optimizer, every=1, budget=None) as watching, Sizes():
        watching._look()
        watching._judge()
    assert watching.looks
    assert max(made) <= 4096


def test_findings_are_told_once_through_logging(caplog):
    optimizer = Host(parameters([(3,), (4,)]), lr=0.01, alpha=0.999)
    with caplog.at_level(logging.WARNING, logger="rmsprop.doctor"), watch(optimizer, every=1, budget=None) as watching:
        train(optimizer, 3)
    (record,) = caplog.records
    assert record.getMessage().startswith("start: 0, step 1: a first step of 31.6 x lr")
    assert record.getMessage().endswith("(also 1)")
    assert [finding.tensor for finding in watching.findings] == ["0", "1"]


# ---- refusals --------------------------------------------------------------------------------------------------------


def test_another_optimizer_is_refused_by_name():
    with pytest.raises(InputTypeError, match=r"torch\.optim\.adam\.Adam, expected torch\.optim\.RMSprop"):
        watch(torch.optim.Adam(parameters()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every=0, expected a whole number"),
        ({"every": 1.5}, "every=1.5"),
        ({"budget": 0}, "budget=0, expected a share"),
        ({"budget": 2.0}, "budget=2.0"),
        ({"names": 7}, "names: a int, expected a module"),
        ({"names": ["ab"]}, "names: 'a' names a str, expected (name, parameter) pairs"),
        ({"to": 123}, "to=123: a int, expected a folder or None"),
    ],
)
def test_arguments_out_of_their_domain_are_refused(options, message):
    optimizer = Host(parameters())
    with pytest.raises(InputError, match=re.escape(message)):
        watch(optimizer, **options)
    assert not optimizer._optimizer_step_pre_hooks


@pytest.mark.parametrize("kind", ["int64", "int32", "uint8"])
def test_steps_may_be_counted_in_the_numbers_of_numpy(kind, tmp_path):
    optimizer = Host(parameters([(3,)]), lr=1e-3)
    with watch(optimizer, every=getattr(numpy, kind)(4), to=tmp_path, budget=None, tensorboard=False):
        train(optimizer, 9)
    assert steps_of(tmp_path) == [1, 4, 8]


# ---- files -----------------------------------------------------------------------------------------------------------


def watched(folder, steps=3, **options):
    optimizer = Host(parameters([(3,), (2, 2)]), lr=1e-3)
    with watch(optimizer, every=1, to=folder, budget=None, **options) as watching:
        train(optimizer, steps)
    return watching


def test_each_line_is_one_look_at_one_tensor(tmp_path):
    watching = watched(tmp_path / "deep" / "x", tensorboard=False)
    lines = (tmp_path / "deep" / "x" / "doctor.jsonl").read_text().splitlines()
    assert [(json.loads(line)["step"], json.loads(line)["tensor"]) for line in lines] == [
        (1, "0"), (1, "1"), (2, "0"), (2, "1"), (3, "0"), (3, "1"),
    ]  # fmt: skip
    assert Look.from_json(lines[-1]) == watching.looks["1"]


def test_event_files_hold_what_was_seen(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    watching = watched(tmp_path, tensorboard=True)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    ratios = events.Scalars("update to weight/1")
    assert [event.step for event in ratios] == [1, 2, 3]
    assert ratios[-1].value == pytest.approx(watching.looks["1"].update_to_weight, rel=1e-6)
    assert "effective lr, quantile 0.5/0" in events.Tags()["scalars"]


def test_a_finding_is_a_text_of_tensorboard(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    optimizer = Host(parameters([(3,)]), lr=0.01, alpha=0.999)
    with watch(optimizer, every=1, to=tmp_path, budget=None, tensorboard=True) as watching:
        train(optimizer, 2)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    (event,) = events.Tensors("start/0/text_summary")
    assert event.step == 1
    assert event.tensor_proto.string_val[0].decode() == str(watching.findings[0])


def test_a_second_training_in_one_folder_is_a_run_of_its_own(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    for steps in (3, 2):
        watched(tmp_path, steps=steps, tensorboard=True)
    assert [look.run for look in read(tmp_path)] == [1] * 6 + [2] * 4
    assert [look.step for look in read(tmp_path, run=-1)] == [1, 1, 2, 2]
    assert len(read(tmp_path, run=1)) == 6
    with pytest.raises(InputError, match=r"run=3, expected one of \[1, 2\]"):
        read(tmp_path, run=3)
    assert len(list(tmp_path.glob("events*"))) == 1
    assert len(list((tmp_path / "run2").glob("events*"))) == 1


def test_a_training_after_a_killed_one_leaves_no_line_that_cannot_be_read(tmp_path):
    watched(tmp_path, tensorboard=False)
    file = tmp_path / writers.LINES
    file.write_bytes(file.read_bytes()[:-20])
    watched(tmp_path, steps=1, tensorboard=False)
    assert [look.run for look in read(tmp_path)] == [1] * 5 + [2] * 2


def test_lines_of_before_runs_had_numbers_are_run_1(tmp_path):
    watched(tmp_path, steps=1, tensorboard=False)
    file = tmp_path / writers.LINES
    new = ("run", "not_finite", "eps_root", "coming_rows", "start_lr")
    old = [{k: v for k, v in json.loads(line).items() if k not in new} for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(line) + "\n" for line in old))
    assert len(read(tmp_path, run=1)) == 2
    watched(tmp_path, steps=1, tensorboard=False)
    assert [look.run for look in read(tmp_path)] == [1, 1, 2, 2]


def without_tensorboard(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)


def test_without_tensorboard_the_lines_are_written_and_the_extra_is_named(tmp_path, monkeypatch):
    without_tensorboard(monkeypatch)
    with pytest.warns(RMSpropWarning, match=r'pip install "rmsprop\[doctor\]"; the lines of JSON are written'):
        watched(tmp_path)
    assert steps_of(tmp_path) == [1, 2, 3]


def test_event_files_that_were_asked_for_need_the_package(tmp_path, monkeypatch):
    without_tensorboard(monkeypatch)
    with pytest.raises(MissingDependency, match="tensorboard is needed for event files"):
        watched(tmp_path, tensorboard=True)


def test_a_folder_that_cannot_be_written_is_said_and_the_training_goes_on(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.warns(RMSpropWarning, match="no more looks are written there, the training goes on"):
        watching = watched(tmp_path / "file" / "x", tensorboard=False)
    assert {look.step for look in watching.looks.values()} == {3}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_is_said_and_the_training_goes_on(tmp_path):
    (tmp_path / writers.LINES).symlink_to("/dev/full")
    with pytest.warns(RMSpropWarning, match="No space left on device; no more looks are written"):
        watching = watched(tmp_path, tensorboard=False)
    assert {look.step for look in watching.looks.values()} == {3}


def test_a_disk_that_fills_up_within_a_look_leaves_no_half_line(tmp_path):
    class Short:
        def __init__(self, file):
            self.file, self.left = file, 100

        def write(self, block):
            done = self.file.write(block[: self.left])
            self.left -= done
            return done

        def __getattr__(self, name):
            return getattr(self.file, name)

    written = writers.Writers(tmp_path, tensorboard=False)
    written._file = Short(written._file)
    look = Look(tensor="w", shape=(2,), dtype="float32", step=1, lr=0.1, rule={})
    with pytest.warns(RMSpropWarning, match="No space left"):
        written.write([look, look], [])
    assert (tmp_path / writers.LINES).read_bytes() == b""


def test_the_last_half_line_of_a_killed_run_is_left_out_and_others_are_refused(tmp_path):
    watched(tmp_path, tensorboard=False)
    file = tmp_path / writers.LINES
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    assert len(read(tmp_path)) == 5
    file.write_bytes(b"{}\n" + whole)
    with pytest.raises(FileError, match="line 1: not a look"):
        read(tmp_path)
    file.write_bytes(b"")
    with pytest.raises(FileError, match="no look in it yet"):
        read(tmp_path)
    with pytest.raises(FileError, match=r"expected the doctor\.jsonl"):
        read(tmp_path / "nothing")


# ---- the example -----------------------------------------------------------------------------------------------------


def test_the_example_leaps_and_calms_down_as_advised(tmp_path):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    script = Path(__file__).parent.parent / "examples" / "doctor.py"
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    highest, calm = (float(number) for number in re.findall(r": (?:.*climbed to )?(\d+\.\d)$", done.stdout, re.M))
    assert calm < 3.0 < highest  # ln 10 = 2.3 is knowing nothing
    assert "first steps of up to 38.9 x lr (at step 18)" in done.stdout
    assert "findings of a start: 0" in done.stdout
    assert steps_of(tmp_path)[:2] == [1, 18]
