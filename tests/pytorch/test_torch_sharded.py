"""Promise: sharded parameters step like unsharded ones, and one norm covers every shard of every rank."""

import pytest
import torch
import torch.distributed as dist
from distributed_helpers import (
    EXACT,
    RANDOM,
    assert_has_moved,
    assert_near,
    compute_loss,
    draw_batches,
    fit,
    gather,
    get_dtype,
    set_up,
    take_share,
)  # fmt: skip
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch_helpers import draw_grads, train

from rmsprop.torch import RMSprop, release_gradients

pytestmark = pytest.mark.distributed


def make_mesh():
    return init_device_mesh("cpu", (dist.get_world_size(),))


# ---- FSDP2 -----------------------------------------------------------------------------------------------------------


def compare_with_unsharded(case):
    single, single_optimizer = set_up(case)
    model, optimizer = set_up(case, shard=True)
    train(single_optimizer, 5)
    train(optimizer, 5)
    assert_has_moved(model)
    assert_near(model, single)
    assert all(isinstance(p, DTensor) for p in model.parameters())


@pytest.mark.parametrize("case", EXACT)
def test_fsdp2_has_the_bits_of_the_unsharded_model(two, case):
    two(compare_with_unsharded, case)


def compare_with_separate_tensors(case):
    model, optimizer = set_up(case, shard=True)
    options = {name: value for name, value in RANDOM[case].items() if name != "dtype"}
    separate = [nn.Parameter(p.to_local().detach().clone()) for p in model.parameters()]
    separate_optimizer = RMSprop(separate, lr=0.01, **options)
    for seed in range(5):
        draw_grads(list(model.parameters()), seed)
        for mine, param in zip(separate, model.parameters()):
            mine.grad = param.grad.to_local().clone()
        optimizer.step()
        separate_optimizer.step()
    assert_has_moved(model)
    for mine, param in zip(separate, model.parameters()):
        torch.testing.assert_close(param.to_local(), mine.detach(), rtol=0, atol=0)


@pytest.mark.parametrize("case", RANDOM)
def test_under_fsdp2_each_shard_is_rounded_like_a_separate_tensor(two, case):
    two(compare_with_separate_tensors, case)


def fit_on_shares(case):
    single, single_optimizer = set_up(case)
    model, optimizer = set_up(case, shard=True)
    batches = draw_batches(6, get_dtype(model))
    fit(single, single_optimizer, batches)
    fit(model, optimizer, take_share(batches))
    assert_near(model, single, 1e-12)


@pytest.mark.parametrize("case", [{}, {"momentum": 0.9, "centered": True}, {"max_norm": 0.05}, {"dialect": "sb3"}])
def test_fsdp2_on_halves_of_the_data_equals_one_process_to_rounding(two, case):
    two(fit_on_shares, {"dtype": torch.float64, **case})


def release_under_fsdp2():
    single, single_optimizer = set_up("momentum")
    model, optimizer = set_up("momentum", shard=True)
    batches = draw_batches(4, get_dtype(model))
    fit(single, single_optimizer, batches)
    release_gradients(model, optimizer)
    for x in batches:
        compute_loss(model, x).backward()
        assert all(p.grad is None for p in model.parameters())
        optimizer.step()
    assert_near(model, single)


def test_gradient_release_works_under_fsdp2(two):
    two(release_under_fsdp2)


# ---- clipping --------------------------------------------------------------------------------------------------------


def clip(max_norm, part):
    """Compare with clip_grad_norm_ in one process; `part`: only the middle layer is sharded, the others are plain."""
    model, optimizer = set_up({"dtype": torch.float64, "max_norm": max_norm}, shard=not part)
    if part:
        fully_shard(model[2], mesh=make_mesh())
        optimizer = RMSprop(model.parameters(), lr=0.01, max_norm=max_norm)
    single, single_optimizer = set_up({"dtype": torch.float64})
    for seed in range(3):
        for each in (model, single):
            draw_grads(list(each.parameters()), seed)
        expected = float(nn.utils.clip_grad_norm_(single.parameters(), max_norm))
        single_optimizer.step()
        optimizer.step()
        assert optimizer.grad_norm == pytest.approx(expected, rel=1e-14)
        assert 1 < expected < 1e6
    assert_near(model, single, 1e-12)


@pytest.mark.parametrize("part", [False, True], ids=["all sharded", "one layer sharded"])
@pytest.mark.parametrize("max_norm", [0.1, 1e6])
def test_the_norm_covers_all_shards_of_all_ranks_and_plain_parameters(two, max_norm, part):
    two(clip, max_norm, part)


def clip_with_gradient_on_one_rank():
    grad = torch.zeros(4, 3, dtype=torch.float64)
    grad[0, 0], grad[0, 1] = 3.0, 4.0  # norm 5, all of it on rank 0
    param = nn.Parameter(distribute_tensor(torch.zeros_like(grad), make_mesh(), [Shard(0)]))
    param.grad = distribute_tensor(grad, make_mesh(), [Shard(0)])
    optimizer = RMSprop([param], lr=1.0, alpha=0.0, eps=1.0, max_norm=1.0)
    optimizer.step()
    return optimizer.grad_norm, gather(param.detach())[0].tolist()


def test_ranks_with_zero_gradients_know_the_norm_of_the_others(two):
    for norm, row in two(clip_with_gradient_on_one_rank):
        assert norm == pytest.approx(5.0, rel=1e-15)
        # alpha 0: v = g^2, so the step is g / (|g| + 1) with g scaled to 3/5 and 4/5.
        assert row == pytest.approx([-0.6 / 1.6, -0.8 / 1.8, 0.0], rel=1e-5)


# ---- other placements ------------------------------------------------------------------------------------------------


def compare_placements(mesh_shape, placements, grad_placements, tolerance, options):
    """Step one parameter with the placements of its gradient, and its unsharded equal."""
    mesh = init_device_mesh("cpu", mesh_shape)
    start = torch.linspace(-1, 1, 63).reshape(7, 9)
    param, single = nn.Parameter(distribute_tensor(start, mesh, placements)), nn.Parameter(start.clone())
    optimizer, single_optimizer = RMSprop([param], **options), RMSprop([single], **options)
    for step in range(3):
        summands = [torch.arange(63.0).reshape(7, 9) - 3 * step, 5 - torch.arange(63.0).reshape(7, 9) ** 1.5]
        if isinstance(grad_placements[0], Partial):
            param.grad = DTensor.from_local(summands[dist.get_rank()], mesh, grad_placements)
        else:
            param.grad = distribute_tensor(sum(summands), mesh, grad_placements)
        single.grad = sum(summands)
        optimizer.step()
        single_optimizer.step()
    assert optimizer.grad_norm == pytest.approx(single_optimizer.grad_norm, rel=1e-6, nan_ok=True)
    torch.testing.assert_close(gather(param.detach()), single.detach(), rtol=tolerance, atol=tolerance)


PLACEMENTS = {
    "replicated, partial gradient": ([Replicate()], [Partial("sum")]),
    "sharded, partial gradient": ([Shard(0)], [Partial("sum")]),
    "gradient sharded along another axis": ([Shard(0)], [Shard(1)]),
}


@pytest.mark.parametrize(("placements", "of_grad"), PLACEMENTS.values(), ids=PLACEMENTS)
def test_a_gradient_is_brought_to_the_placement_of_its_parameter(two, placements, of_grad):
    two(compare_placements, (2,), placements, of_grad, 0.0, {"momentum": 0.9})


def shard_replicas():
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard"))
    single, single_optimizer = set_up("centered")
    model, optimizer = set_up("centered", shard=True, mesh=mesh)
    train(single_optimizer, 4)
    train(optimizer, 4)
    assert_near(model, single)


def test_replicated_shards_and_shards_along_two_axes_equal_one_process(four):
    four(shard_replicas)
    four(compare_placements, (2, 2), [Shard(0), Shard(1)], [Shard(0), Shard(1)], 1e-6, {"max_norm": 1.0})
