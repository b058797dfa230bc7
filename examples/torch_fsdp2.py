"""Shard a model and its optimizer state over two processes with FSDP2, save a checkpoint, and resume from it.

    torchrun --nproc-per-node 2 examples/torch_fsdp2.py CHECKPOINT_FOLDER

Run it again with another number of processes and the same folder: it resumes where the first run stopped. Each process
keeps and steps only its shards; `max_norm` is the norm over all shards of all processes.
"""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from rmsprop.torch import RMSprop


def main(folder, steps=20):
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    mesh = init_device_mesh("cpu", (size,))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    x = torch.randn(64, 8)
    y = x.square().sum(1, keepdim=True)
    for layer in model:
        if isinstance(layer, nn.Linear):
            fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = RMSprop(model.parameters(), lr=1e-3, dialect="tensorflow1", momentum=0.9, max_norm=10.0)

    done = 0
    latest = max(Path(folder).glob("step-*"), default=None)
    if latest is not None:
        done = int(latest.name.removeprefix("step-"))
        weights, state = get_state_dict(model, optimizer)
        dcp.load({"model": weights, "optimizer": state}, checkpoint_id=latest)
        set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=state)
    for step in range(done, done + steps):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x.chunk(size)[rank]), y.chunk(size)[rank])
        loss.backward()
        optimizer.step()
        mean = loss.detach() / size
        dist.all_reduce(mean)
        if rank == 0 and step % 10 == 0:
            print(f"{size} processes, step {step}: loss {float(mean):.4f}, norm {optimizer.grad_norm:.3f}", flush=True)
    weights, state = get_state_dict(model, optimizer)
    dcp.save({"model": weights, "optimizer": state}, checkpoint_id=Path(folder) / f"step-{done + steps:06}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
    # DTensor keeps gloo's threads alive after destroy_process_group (torch 2.13), and one of them may still have to
    # free a tensor of the checkpoint. If Python shuts down before that, the process aborts: end without a shutdown.
    sys.stdout.flush()
    os._exit(0)
