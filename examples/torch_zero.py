"""Shard the state of RMSprop over two processes with torch's ZeroRedundancyOptimizer.

    torchrun --nproc-per-node 2 examples/torch_zero.py

Each process keeps the statistics of a part of the parameters, steps that part and sends it to the others. The weights
end with the bits of an unsharded run. Any option of RMSprop passes: dialect, momentum, state_dtype, ...
"""

import zlib

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel

from rmsprop.torch import RMSprop

OPTIONS = {"lr": 3e-3, "dialect": "keras3", "momentum": 0.9}


def train(sharded):
    rank, size = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    x = torch.randn(256, 8)
    y = x.square().sum(1, keepdim=True)
    parallel = DistributedDataParallel(model)
    if sharded:
        optimizer = ZeroRedundancyOptimizer(parallel.parameters(), optimizer_class=RMSprop, **OPTIONS)
    else:
        optimizer = RMSprop(parallel.parameters(), **OPTIONS)
    for batch in torch.arange(256).split(32) * 3:
        mine = batch.chunk(size)[rank]
        optimizer.zero_grad()
        nn.functional.mse_loss(parallel(x[mine]), y[mine]).backward()
        optimizer.step()
    weights = nn.utils.parameters_to_vector(model.parameters()).detach()
    state = (optimizer.optim if sharded else optimizer).state
    return weights, sum(entry["square_avg"].numel() for entry in state.values())


def main():
    dist.init_process_group("gloo")
    sharded, kept = train(sharded=True)
    whole, everything = train(sharded=False)
    print(f"rank {dist.get_rank()} keeps {kept} of {everything} numbers", flush=True)
    if dist.get_rank() == 0:
        for name, weights in (("sharded", sharded), ("whole", whole)):
            print(f"{name}: weights {zlib.crc32(weights.numpy().tobytes()):08x}", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
