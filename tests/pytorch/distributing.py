"""What the tests on several processes share: groups of ranks, a network, its gradients, and comparisons."""

import pytest
import torch
import torch.distributed as dist
from ranks import Ranks
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from rmsprop.torch import RMSprop

bf16 = torch.bfloat16

# Every rule whose result does not depend on noise, so that bits can be compared.
EXACT = {
    "defaults": {},
    "momentum": {"momentum": 0.9, "weight_decay": 0.1},
    "centered": {"momentum": 0.9, "centered": True},
    "sb3": {"dialect": "sb3"},
    "corrected decay": {"dialect": "timm", "momentum": 0.9, "weight_decay": 0.1},
    "tensor lr": {"lr": 0.02, "tensor_lr": True},
    "float64": {"dtype": torch.float64, "centered": True},
    "float16": {"dtype": torch.float16, "momentum": 0.9},
    "bfloat16": {"dtype": bf16},
    "compensated": {"dtype": bf16, "param_rounding": "compensated", "momentum": 0.9},
    "capturable": {"capturable": True, "momentum": 0.9},
}

# Their noise follows the place of an element in its own tensor, so a shard's is not the whole tensor's.
NOISY = {
    "stochastic": {"dtype": bf16, "param_rounding": "stochastic", "momentum": 0.9},
    "bfloat16 state": {"state_dtype": "bfloat16", "centered": True},
    "8-bit state": {"state_dtype": "8bit", "momentum": 0.9},
    "8-bit centered": {"state_dtype": "8bit", "centered": True},
}
ALL = EXACT | NOISY


@pytest.fixture(name="two", scope="module")
def two_ranks():
    ranks = Ranks(2)
    yield ranks
    ranks.stop()


@pytest.fixture(name="four", scope="module")
def four_ranks():
    ranks = Ranks(4)
    yield ranks
    ranks.stop()


def network(dtype=torch.float32):
    """Seven inputs and one output: no axis divides by 2, and the last layer leaves ranks without an element."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 45), nn.Tanh(), nn.Linear(45, 5), nn.Tanh(), nn.Linear(5, 1)).to(dtype)


def setup(case, *, shard=False, cls=RMSprop, mesh=None):
    options = {"lr": 0.01, **ALL.get(case, {})} if isinstance(case, str) else {"lr": 0.01, **case}
    model = network(options.pop("dtype", torch.float32))
    if options.pop("tensor_lr", False):
        options["lr"] = torch.tensor(options["lr"])
    if shard:
        mesh = mesh or init_device_mesh("cpu", (dist.get_world_size(),))
        for layer in model:
            if isinstance(layer, nn.Linear):
                fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
    return model, cls(model.parameters(), **options)


def give_gradients(model, seed):
    """The same gradients on every rank and however the model is sharded; a few of them tiny, a few huge."""
    random = torch.Generator().manual_seed(seed)
    for param in model.parameters():
        grad = torch.randn(param.shape, generator=random) * 10.0 ** torch.randint(-3, 2, param.shape, generator=random)
        grad = grad.to(param.dtype)
        if isinstance(param, DTensor):
            grad = distribute_tensor(grad, param.device_mesh, param.placements)
        param.grad = grad


def steps(model, optimizer, first, last):
    for seed in range(first, last):
        give_gradients(model, seed)
        optimizer.step()


def whole(tensor):
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor.detach()


def assert_same_bits(model, expected):
    for (name, mine), (_, other) in zip(model.named_parameters(), expected.named_parameters()):
        torch.testing.assert_close(whole(mine), whole(other), rtol=0, atol=0, msg=lambda text, name=name: name + text)


def assert_moved(model):
    assert not any(torch.equal(whole(p), q) for p, q in zip(model.parameters(), network(p_dtype(model)).parameters()))


def p_dtype(model):
    return next(model.parameters()).dtype


def batches(n, dtype):
    random = torch.Generator().manual_seed(1)
    return [torch.randn(8, 7, generator=random).to(dtype) for _ in range(n)]


def loss_of(model, x):
    return (model(x) - x.sum(1, keepdim=True)).square().mean()


def fit(model, optimizer, data):
    for x in data:
        optimizer.zero_grad()
        loss_of(model, x).backward()
        optimizer.step()
