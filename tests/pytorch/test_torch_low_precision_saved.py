"""Promise: 16-bit weights and narrow statistics are saved, resumed to the bit, and converted from one to another."""

from __future__ import annotations

import copy
import io
import itertools

import numpy as np
import pytest
import torch

pytest.importorskip("rmsprop._core", reason="the compiled module is not installed")

from rmsprop.errors import StateError
from rmsprop.torch import RMSprop
from torch_helpers import STATES, decode_mean_square, one_thread  # noqa: F401

# The stall that the warning foretells is what some of these tests show.
pytestmark = pytest.mark.filterwarnings("ignore:lr .* is lost in:rmsprop.errors.RMSpropWarning")

OPTIONS = [{}, {"momentum": 0.9}, {"centered": True}, {"momentum": 0.9, "centered": True, "weight_decay": 0.1}]


def everything(model_params, optimizer):
    """All bits that a run has produced."""
    found = [p.detach() for p in model_params]
    found += [optimizer.state[p][key] for p in model_params for key in sorted(optimizer.state[p])]
    return [t.contiguous().view(-1).view(torch.uint8) if t.dim() else t for t in found]


def built(shapes, dtype, **options):
    generator = torch.Generator().manual_seed(1)
    params = [torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in shapes]
    params[0].data = params[0].data.to(memory_format=torch.channels_last)
    return params, RMSprop(params, lr=0.01, seed=5, **options)


SHAPES = [(5, 3, 4, 4), (300,), (), (2, 0)]


def steps(params, optimizer, first, last):
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        for param in params:
            param.grad = torch.randn(param.shape, generator=generator).to(param.dtype)
        optimizer.step()


@pytest.mark.parametrize("rounding", ["nearest", "stochastic", "compensated"])
@pytest.mark.parametrize("state_dtype", STATES)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_an_interrupted_run_resumes_with_the_same_bits(options, state_dtype, rounding):
    options = {**options, "state_dtype": state_dtype, "param_rounding": rounding}
    params, optimizer = built(SHAPES, torch.bfloat16, **options)
    steps(params, optimizer, 0, 8)
    for stop in (1, 5):
        first, before = built(SHAPES, torch.bfloat16, **options)
        steps(first, before, 0, stop)
        file = io.BytesIO()
        torch.save({"params": [p.data for p in first], "optimizer": before.state_dict()}, file)
        file.seek(0)
        saved = torch.load(file)
        second, after = built(SHAPES, torch.bfloat16, **options)
        for param, data in zip(second, saved["params"]):
            param.data.copy_(data)
        after.load_state_dict(saved["optimizer"])
        steps(second, after, stop, 8)
        for ours, theirs in zip(everything(second, after), everything(params, optimizer)):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("before", "after"), list(itertools.permutations(STATES, 2)))
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_state_is_converted_to_the_dtype_of_the_optimizer_that_loads_it(options, before, after):
    shapes = [(7, 3, 8, 8), (300,)]
    params, optimizer = built(shapes, torch.float32, **options, state_dtype=before)
    steps(params, optimizer, 0, 20)
    others, target = built(shapes, torch.float32, **options, state_dtype=after)
    # Into a parameter with another memory order: the blocks of the code follow the order, the values the positions.
    others[0].data = others[0].data.contiguous()
    target.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    back, last = built(shapes, torch.float32, **options, state_dtype="float32")
    last.load_state_dict(copy.deepcopy(target.state_dict()))
    reference, start = built(shapes, torch.float32, **options, state_dtype="float32")
    start.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    spacing = {"float32": 2.0**-23, "bfloat16": 2.0**-8, "8bit": 0.09}[after]
    for mine, theirs in zip(back, reference):
        for key, value in start.state[theirs].items():
            rel = spacing if key in ("square_avg", "grad_var") or after != "8bit" else 2.0**-8
            torch.testing.assert_close(last.state[mine][key], value, rtol=rel, atol=0.0)
    steps(others, target, 20, 22)  # and it goes on
    assert all(torch.isfinite(p).all() for p in others)
    assert target.state[others[0]]["step"] == 22


def test_codes_keep_their_places_when_the_memory_order_changes():
    shape = (8, 16, 5, 5)
    values = torch.rand(shape, generator=torch.Generator().manual_seed(2)) ** 8
    found = []
    for saved_as, loaded_as in itertools.product((torch.contiguous_format, torch.channels_last), repeat=2):
        first = torch.nn.Parameter(torch.zeros(shape).to(memory_format=saved_as))
        optimizer = RMSprop([first], alpha=0.5, state_dtype="8bit")
        first.grad = values.clone()
        optimizer.step()
        second = torch.nn.Parameter(torch.zeros(shape).to(memory_format=loaded_as))
        target = RMSprop([second], alpha=0.5, state_dtype="8bit")
        target.load_state_dict(optimizer.state_dict())
        second.grad = torch.zeros(shape)
        target.step()
        found.append(decode_mean_square(dict(target.state[second])))
    for square in found:
        # 1/2 g^2, then half of it; a code each, of neighbours at most 16 % apart, twice or three times.
        expected = 0.25 * values**2
        near = expected > expected.max() * 1e-9
        assert ((square / expected)[near].log().abs() < 3 * np.log(1.17)).all()


def test_a_square_that_is_not_zero_is_not_loaded_as_zero():
    tiny = torch.tensor([1e-45, 1e-42, 0.0, 1e-40])
    for state_dtype in ("bfloat16", "8bit"):
        param = torch.nn.Parameter(torch.zeros(4))
        source, target = RMSprop([param], eager_state=True), RMSprop([param], state_dtype=state_dtype)
        source.state[param]["square_avg"].copy_(tiny)
        target.load_state_dict(source.state_dict())
        assert torch.equal(decode_mean_square(dict(target.state[param])) == 0, tiny == 0), state_dtype


def test_codes_without_their_maxima_are_refused_by_name():
    param = torch.nn.Parameter(torch.ones(300))
    optimizer = RMSprop([param], state_dtype="8bit", eager_state=True)
    good = optimizer.state_dict()
    for key, value, message in (
        ("square_avg_max", None, r"state\[0\]\['square_avg_max'\] is missing; nothing was loaded"),
        ("square_avg_max", torch.ones(1), r"state\[0\]\['square_avg_max'\]: shape \(1,\), expected 2 block maxima"),
        ("square_avg_8bit", torch.ones(3), r"state\[0\]\['square_avg_8bit'\]: shape \(3,\), expected \(300,\)"),
    ):
        bad = copy.deepcopy(good)
        bad["state"][0].pop(key)
        if value is not None:
            bad["state"][0][key] = value
        before = copy.deepcopy(optimizer.state_dict())
        with pytest.raises(StateError, match=message):
            optimizer.load_state_dict(bad)
        assert str(optimizer.state_dict()) == str(before)


def test_wide_parameters_in_a_narrow_group_keep_their_own_precision():
    for dtype in (torch.float64, torch.complex64):
        for state_dtype in ("bfloat16", "8bit"):
            params = [torch.nn.Parameter(torch.ones(5, dtype=d)) for d in (dtype, torch.float32)]
            alone = torch.nn.Parameter(torch.ones(5, dtype=dtype))
            narrow, plain = RMSprop(params, state_dtype=state_dtype), RMSprop([alone])
            for _ in range(3):
                for param in (*params, alone):
                    param.grad = torch.full_like(param, 0.3)
                narrow.step()
                plain.step()
            assert torch.equal(params[0], alone)


def test_torch_is_told_that_it_cannot_read_codes():
    param = torch.nn.Parameter(torch.ones(300))
    optimizer = RMSprop([param], state_dtype="8bit", eager_state=True)
    host = torch.optim.RMSprop([param])
    host.load_state_dict(optimizer.state_dict())
    param.grad = torch.ones(300)
    with pytest.raises(KeyError, match="square_avg"):
        host.step()
