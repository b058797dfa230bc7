"""Promise: under DistributedDataParallel a run has the bits of one process."""

import pytest
import torch
from distributed_helpers import (
    EXACT,
    RANDOM,
    assert_has_moved,
    assert_near,
    draw_batches,
    fit,
    get_dtype,
    set_up,
    take_share,
)  # fmt: skip
from torch.nn.parallel import DistributedDataParallel
from torch_helpers import read_bits

from rmsprop.torch import release_gradients

pytestmark = pytest.mark.distributed


def compare_with_one_process(case, split, tolerance):
    single, single_optimizer = set_up(case)
    model, optimizer = set_up(case)
    batches = draw_batches(4, get_dtype(model))
    fit(single, single_optimizer, batches)
    fit(DistributedDataParallel(model), optimizer, take_share(batches) if split else batches)
    assert_has_moved(model)
    assert_near(model, single, tolerance)


@pytest.mark.parametrize("case", [*EXACT, *RANDOM, {"max_norm": 0.05, "momentum": 0.9}, {"max_norm": 1e6}], ids=str)
def test_ddp_on_equal_data_has_the_bits_of_one_process(two, case):
    two(compare_with_one_process, case, False, 0.0)


@pytest.mark.parametrize("case", [{}, {"momentum": 0.9, "centered": True}, {"max_norm": 0.05}, {"dialect": "sb3"}])
def test_ddp_on_halves_of_the_data_equals_one_process_to_rounding(two, case):
    two(compare_with_one_process, {"dtype": torch.float64, **case}, True, 1e-12)


def fit_replica(case):
    model, optimizer = set_up(case)
    fit(DistributedDataParallel(model), optimizer, take_share(draw_batches(4, get_dtype(model))))
    return read_bits(list(model.parameters()))


@pytest.mark.parametrize("case", RANDOM)
def test_replicas_stay_equal_when_rounding_is_random(two, case):
    first, second = two(fit_replica, case)
    assert first == second


def release_under_ddp():
    model, optimizer = set_up("defaults")
    with pytest.raises(ValueError, match=r"DistributedDataParallel averages gradients after backward.*fully_shard"):
        release_gradients(DistributedDataParallel(model), optimizer)


def test_gradient_release_under_ddp_raises(two):
    two(release_under_ddp)
