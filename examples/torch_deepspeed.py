"""Train under DeepSpeed's ZeRO 1 or 2, beside torch's own RMSprop. It runs on CPUs too.

    torchrun --nproc-per-node 2 examples/torch_deepspeed.py 2

DeepSpeed shards the state and hands each process one flat float32 parameter. It clips gradients itself, by
"gradient_clipping", so leave `max_norm` out. "zero_allow_untested_optimizer" is needed for every optimizer that is not
DeepSpeed's own.
"""

import sys

import deepspeed
import torch
import torch.distributed as dist
from torch import nn

from rmsprop.torch import RMSprop


def train(optimizer_class, stage):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 1))
    x = torch.randn(256, 8)
    y = x.square().sum(1, keepdim=True)
    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=optimizer_class(model.parameters(), lr=3e-3),
        config={
            "train_micro_batch_size_per_gpu": 32,
            "gradient_clipping": 10.0,
            "zero_optimization": {"stage": stage},
            "zero_allow_untested_optimizer": True,
        },
    )
    losses = []
    for batch in torch.arange(256).split(64) * 10:
        mine = batch.chunk(dist.get_world_size())[dist.get_rank()]
        loss = nn.functional.mse_loss(engine(x[mine]), y[mine])
        engine.backward(loss)
        engine.step()
        losses.append(float(loss.detach()))
    return nn.utils.parameters_to_vector(model.parameters()).detach(), losses


def main():
    stage = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    deepspeed.init_distributed("gloo")
    theirs, _ = train(torch.optim.RMSprop, stage)
    ours, losses = train(RMSprop, stage)
    if dist.get_rank() == 0:
        print(f"ZeRO {stage}: loss {losses[0]:.2f}", f"loss {losses[-1]:.2f}", sep="\n")
    print(f"the weights differ by {float((ours - theirs).abs().max()):.1e}", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
