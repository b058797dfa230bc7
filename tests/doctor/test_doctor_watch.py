"""`rmsprop.doctor.watch` on PyTorch optimizers: when it looks, what it writes, and that it changes nothing."""

from __future__ import annotations

import logging
import re
from types import SimpleNamespace

import numpy
import pytest

from rmsprop.doctor import watch
from rmsprop.errors import InputError, InputTypeError

torch = pytest.importorskip("torch", reason="torch is not installed")

from rmsprop.doctor import torch as watching_torch  # noqa: E402
from rmsprop.torch import RMSprop  # noqa: E402
from torch_helpers import TorchRMSprop as Host  # noqa: E402
from torch_helpers import assert_same_bits, draw_grads, train  # noqa: E402
from torch_helpers import list_watched_steps as steps_looked_at  # noqa: E402
from torch_helpers import make_params as parameters  # noqa: E402

MAKERS = {"torch": Host, "here": RMSprop}


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
    assert steps_looked_at(tmp_path) == [1, 4, 8, 12]
    train(optimizer, 7, start=13)  # closed
    assert steps_looked_at(tmp_path) == [1, 4, 8, 12]


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
    assert steps_looked_at(tmp_path) == [1, 200 - 1, 400 - 2]
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


def test_a_step_that_is_due_twice_is_looked_at_once(tmp_path):
    optimizer = Host(parameters([(3,)]), lr=1e-6, momentum=0.937)  # whose longest first step is the 18th
    with watch(optimizer, every=18, to=tmp_path, budget=None, tensorboard=False):
        train(optimizer, 54)
    assert steps_looked_at(tmp_path) == [1, 18, 36, 54]


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
    assert steps_looked_at(tmp_path) == [1, 4, 8]
