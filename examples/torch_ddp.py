"""Train on two processes with DistributedDataParallel.

    torchrun --nproc-per-node 2 examples/torch_ddp.py

Each process computes gradients of its half of every batch, and DDP averages them. Every process then does the same
step, bit for bit, so the copies of the model stay equal. `max_norm` clips the averaged gradients in the step.
"""

import zlib

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from rmsprop.torch import RMSprop


def train():
    rank, size = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 1))
    x = torch.randn(512, 8)
    y = x.square().sum(1, keepdim=True)
    parallel = DistributedDataParallel(model)
    optimizer = RMSprop(parallel.parameters(), lr=3e-3, max_norm=10.0)
    for epoch in range(5):
        for batch in torch.randperm(512).split(64):
            mine = batch.chunk(size)[rank]
            optimizer.zero_grad()
            nn.functional.mse_loss(parallel(x[mine]), y[mine]).backward()
            optimizer.step()
        if rank == 0:
            print(f"epoch {epoch}: loss {float(nn.functional.mse_loss(model(x), y).detach()):.2f}", flush=True)
    weights = nn.utils.parameters_to_vector(model.parameters()).detach()
    print(f"rank {rank}: weights {zlib.crc32(weights.numpy().tobytes()):08x}", flush=True)


def main():
    dist.init_process_group("gloo")
    train()
    # After `train` has freed the DDP wrapper: if the wrapper were the last user of the group, freeing it would wait for
    # gloo's threads, which may wait for Python.
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
