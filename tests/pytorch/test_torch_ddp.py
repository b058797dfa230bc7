"""Promise: under DistributedDataParallel a run has the bits of one process."""

import pytest

torch = pytest.importorskip("torch")
if not torch.distributed.is_available():
    pytest.skip("this torch is built without torch.distributed", allow_module_level=True)

import torch.distributed as dist  # noqa: E402
from distributing import (  # noqa: E402
    ALL,
    NOISY,
    assert_moved,
    assert_same_bits,
    batches,
    bf16,
    fit,
    p_dtype,
    setup,
    two_ranks,  # noqa: F401
)
from torch.nn.parallel import DistributedDataParallel  # noqa: E402

from rmsprop.torch import release_gradients  # noqa: E402


def ddp_on_equal_data(case):
    single, single_optimizer = setup(case)
    model, optimizer = setup(case)
    parallel = DistributedDataParallel(model)
    data = batches(4, p_dtype(model))
    fit(single, single_optimizer, data)
    fit(parallel, optimizer, data)
    assert_moved(model)
    assert_same_bits(model, single)


@pytest.mark.parametrize("case", ALL)
def test_ddp_on_equal_data_has_the_bits_of_one_process(two, case):
    two(ddp_on_equal_data, case)


@pytest.mark.parametrize("max_norm", [0.05, 1e6])
def test_ddp_clips_as_one_process_does(two, max_norm):
    two(ddp_on_equal_data, {"max_norm": max_norm, "momentum": 0.9})


def ddp_on_split_data(case, rtol):
    single, single_optimizer = setup(case)
    model, optimizer = setup(case)
    parallel = DistributedDataParallel(model)
    data = batches(4, p_dtype(model))
    fit(single, single_optimizer, data)
    rank, size = dist.get_rank(), dist.get_world_size()
    fit(parallel, optimizer, [x.chunk(size)[rank] for x in data])
    for mine, other in zip(model.parameters(), single.parameters()):
        torch.testing.assert_close(mine, other, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("case", [{}, {"momentum": 0.9, "centered": True}, {"max_norm": 0.05}, {"dialect": "sb3"}])
def test_ddp_on_halves_of_the_data_equals_one_process_to_rounding(two, case):
    two(ddp_on_split_data, {"dtype": torch.float64, **case}, 1e-12)


def ddp_bits(case):
    model, optimizer = setup(case)
    rank, size = dist.get_rank(), dist.get_world_size()
    fit(DistributedDataParallel(model), optimizer, [x.chunk(size)[rank] for x in batches(4, p_dtype(model))])
    return [p.detach().view(torch.int16 if p.dtype == bf16 else torch.int32).tolist() for p in model.parameters()]


@pytest.mark.parametrize("case", NOISY)
def test_replicas_stay_equal_when_rounding_is_random(two, case):
    first, second = two(ddp_bits, case)
    assert first == second


def ddp_release_is_refused():
    model, optimizer = setup("defaults")
    try:
        release_gradients(DistributedDataParallel(model), optimizer)
    except ValueError as error:
        return str(error)
    return None


def test_gradient_release_under_ddp_is_refused_with_the_reason(two):
    for message in two(ddp_release_is_refused):
        assert "DistributedDataParallel averages gradients after backward" in message
        assert "fully_shard" in message
