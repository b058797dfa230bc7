"""Promise: sharded parameters step to the numbers of whole ones, and one norm covers every shard of every rank."""

import pytest

torch = pytest.importorskip("torch")
if not torch.distributed.is_available():
    pytest.skip("this torch is built without torch.distributed", allow_module_level=True)

import torch.distributed as dist  # noqa: E402
from distributing import (  # noqa: E402
    ALL,
    EXACT,
    NOISY,
    assert_moved,
    assert_same_bits,
    batches,
    fit,
    four_ranks,  # noqa: F401
    give_gradients,
    loss_of,
    p_dtype,
    setup,
    steps,
    two_ranks,  # noqa: F401
    whole,
)
from torch import nn  # noqa: E402
from torch.distributed.device_mesh import init_device_mesh  # noqa: E402
from torch.distributed.fsdp import fully_shard  # noqa: E402
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor  # noqa: E402

from rmsprop.torch import RMSprop, release_gradients  # noqa: E402


def sharded_equals_unsharded(case, n_steps=5):
    single, single_optimizer = setup(case)
    model, optimizer = setup(case, shard=True)
    steps(single, single_optimizer, 0, n_steps)
    steps(model, optimizer, 0, n_steps)
    assert_moved(model)
    assert_same_bits(model, single)
    assert all(isinstance(p, DTensor) for p in model.parameters())


@pytest.mark.parametrize("case", EXACT)
def test_fsdp2_has_the_bits_of_the_unsharded_model(two, case):
    two(sharded_equals_unsharded, case)


def shards_are_tensors_of_their_own(case):
    model, optimizer = setup(case, shard=True)
    options = {"lr": 0.01, **ALL[case]}
    options.pop("dtype", None)
    own = [nn.Parameter(p.to_local().detach().clone()) for p in model.parameters()]
    own_optimizer = RMSprop(own, **options)
    for seed in range(5):
        give_gradients(model, seed)
        for mine, param in zip(own, model.parameters()):
            mine.grad = param.grad.to_local().clone()
        optimizer.step()
        own_optimizer.step()
    assert_moved(model)
    for mine, param in zip(own, model.parameters()):
        torch.testing.assert_close(param.to_local(), mine.detach(), rtol=0, atol=0)


@pytest.mark.parametrize("case", NOISY)
def test_under_fsdp2_each_shard_is_rounded_like_a_tensor_of_its_own(two, case):
    two(shards_are_tensors_of_their_own, case)


def fsdp_fit(case, rtol):
    single, single_optimizer = setup(case)
    model, optimizer = setup(case, shard=True)
    data = batches(6, p_dtype(model))
    fit(single, single_optimizer, data)
    rank, size = dist.get_rank(), dist.get_world_size()
    fit(model, optimizer, [x.chunk(size)[rank] for x in data])
    for mine, other in zip(model.parameters(), single.parameters()):
        torch.testing.assert_close(whole(mine), other.detach(), rtol=rtol, atol=rtol)


@pytest.mark.parametrize("case", [{}, {"momentum": 0.9, "centered": True}, {"max_norm": 0.05}, {"dialect": "sb3"}])
def test_fsdp2_on_halves_of_the_data_equals_one_process_to_rounding(two, case):
    two(fsdp_fit, {"dtype": torch.float64, **case}, 1e-12)


def clipped(dtype, max_norm):
    case = {"max_norm": max_norm, "momentum": 0.9, "dtype": dtype}
    model, optimizer = setup(case, shard=True)
    single, single_optimizer = setup({"momentum": 0.9, "dtype": dtype})
    norms = []
    for seed in range(3):
        for each in (model, single):
            give_gradients(each, seed)
        norms.append(float(nn.utils.clip_grad_norm_(single.parameters(), max_norm)))
        single_optimizer.step()
        optimizer.step()
        norms[-1] = (norms[-1], optimizer.grad_norm)
    for mine, other in zip(model.parameters(), single.parameters()):
        torch.testing.assert_close(whole(mine), other.detach(), rtol=1e-12, atol=1e-12)
    return norms


@pytest.mark.parametrize("max_norm", [0.1, 1e6])
def test_fsdp2_clips_to_the_norm_over_all_shards_of_all_ranks(two, max_norm):
    for norms in two(clipped, torch.float64, max_norm):
        for expected, norm in norms:
            assert norm == pytest.approx(expected, rel=1e-14)
            assert 1 < norm < 1e6


def only_one_rank_has_a_gradient():
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    grad = torch.zeros(4, 3, dtype=torch.float64)
    grad[0, 0], grad[0, 1] = 3.0, 4.0  # norm 5, all of it on rank 0
    param = nn.Parameter(distribute_tensor(torch.zeros(4, 3, dtype=torch.float64), mesh, [Shard(0)]))
    param.grad = distribute_tensor(grad, mesh, [Shard(0)])
    optimizer = RMSprop([param], lr=1.0, alpha=0.0, eps=1.0, max_norm=1.0)
    optimizer.step()
    return optimizer.grad_norm, whole(param.detach())[0].tolist()


def test_ranks_with_zero_gradients_know_the_norm_of_the_others(two):
    for norm, row in two(only_one_rank_has_a_gradient):
        assert norm == pytest.approx(5.0, rel=1e-15)
        # alpha 0: v = g^2, so the step is g / (|g| + 1) with g scaled to 3/5 and 4/5.
        assert row == pytest.approx([-0.6 / 1.6, -0.8 / 1.8, 0.0], rel=1e-5)


def part_sharded():
    """Only the middle layer is sharded; the others are plain tensors, the same on every rank."""
    options = {"dtype": torch.float64, "max_norm": 0.5}
    model, _ = setup(options)
    fully_shard(model[2], mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    optimizer = RMSprop(model.parameters(), lr=0.01, max_norm=0.5)
    single, single_optimizer = setup(options)
    steps(model, optimizer, 0, 3)
    steps(single, single_optimizer, 0, 3)
    assert optimizer.grad_norm == pytest.approx(single_optimizer.grad_norm, rel=1e-14)
    for mine, other in zip(model.parameters(), single.parameters()):
        torch.testing.assert_close(whole(mine), other.detach(), rtol=1e-12, atol=1e-12)


def test_the_norm_covers_sharded_and_plain_parameters_of_one_model(two):
    two(part_sharded)


def partial_gradient(placement):
    """A replicated parameter whose gradient is still one summand per rank, as DTensor's own autograd leaves it."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    start = torch.linspace(-1, 1, 12).reshape(4, 3)
    summands = [torch.arange(12.0).reshape(4, 3) - 3, 5 - torch.arange(12.0).reshape(4, 3) ** 1.5]
    param = nn.Parameter(distribute_tensor(start, mesh, [placement]))
    single = nn.Parameter(start.clone())
    optimizer, single_optimizer = RMSprop([param], momentum=0.9), RMSprop([single], momentum=0.9)
    for _ in range(3):
        param.grad = DTensor.from_local(summands[dist.get_rank()], mesh, [Partial("sum")])
        single.grad = summands[0] + summands[1]
        optimizer.step()
        single_optimizer.step()
    torch.testing.assert_close(whole(param.detach()), single.detach(), rtol=0, atol=0)


@pytest.mark.parametrize("placement", [Replicate(), Shard(0)], ids=str)
def test_a_partial_gradient_is_summed_over_the_ranks_first(two, placement):
    two(partial_gradient, placement)


def otherwise_sharded_gradient():
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    start, grad = torch.linspace(-1, 1, 16).reshape(4, 4), torch.arange(16.0).reshape(4, 4)
    param, single = nn.Parameter(distribute_tensor(start, mesh, [Shard(0)])), nn.Parameter(start.clone())
    param.grad, single.grad = distribute_tensor(grad, mesh, [Shard(1)]), grad
    RMSprop([param]).step()
    RMSprop([single]).step()
    torch.testing.assert_close(whole(param.detach()), single.detach(), rtol=0, atol=0)


def test_a_gradient_sharded_along_another_axis_is_brought_to_its_parameter(two):
    two(otherwise_sharded_gradient)


def hybrid(case):
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard"))
    single, single_optimizer = setup(case)
    model, optimizer = setup(case, shard=True, mesh=mesh)
    steps(single, single_optimizer, 0, 4)
    steps(model, optimizer, 0, 4)
    assert_same_bits(model, single)


def both_axes_sharded():
    mesh = init_device_mesh("cpu", (2, 2))
    placements = [Shard(0), Shard(1)]
    random = torch.Generator().manual_seed(0)
    start = torch.randn(7, 9, generator=random)
    param, single = nn.Parameter(distribute_tensor(start, mesh, placements)), nn.Parameter(start.clone())
    optimizer, single_optimizer = RMSprop([param], max_norm=1.0), RMSprop([single], max_norm=1.0)
    grad = torch.randn(7, 9, generator=random)
    param.grad, single.grad = distribute_tensor(grad, mesh, placements), grad
    optimizer.step()
    single_optimizer.step()
    assert optimizer.grad_norm == pytest.approx(single_optimizer.grad_norm, rel=1e-6)
    torch.testing.assert_close(whole(param.detach()), single.detach(), rtol=1e-6, atol=1e-6)


def test_replicated_shards_and_shards_along_two_axes_equal_one_process(four):
    four(hybrid, "centered")
    four(both_axes_sharded)


def release_under_fsdp(case):
    single, single_optimizer = setup(case)
    model, optimizer = setup(case, shard=True)
    release_gradients(model, optimizer)
    for x in batches(4, p_dtype(model)):
        loss_of(model, x).backward()
        assert all(p.grad is None for p in model.parameters())
        optimizer.step()
    fit(single, single_optimizer, batches(4, p_dtype(model)))
    assert_same_bits(model, single)


def test_gradient_release_works_under_fsdp2(two):
    two(release_under_fsdp, "momentum")
