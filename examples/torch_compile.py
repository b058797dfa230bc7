"""Compile the optimizer's step: one graph, and a changing learning rate recompiles nothing.

In the graph the step is one registered operator that runs the compiled kernel, so no code is generated for it.
`fullgraph=True` makes a graph break an error. A torch scheduler wraps `optimizer.step` in a function that the compiler
cannot trace, for every optimizer: with a scheduler leave `fullgraph` out, as `with_scheduler=True` does here.
"""

import torch
from torch import nn

from rmsprop.torch import RMSprop


def main(steps=40, with_scheduler=False):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 1))
    optimizer = RMSprop(model.parameters(), lr=1e-2, max_norm=1.0)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=steps) if with_scheduler else None
    x = torch.randn(256, 4)
    y = x[:, :1] * x[:, 1:2] + x[:, 2:3].sin()

    def compute_loss_and_grads():
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        return loss.detach()

    # Gradients and state must exist before the step is compiled.
    compute_loss_and_grads()
    optimizer.step()

    @torch.compile(fullgraph=not with_scheduler)
    def step():
        optimizer.step()

    losses, before = [], torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=False)
        losses.append(float(compute_loss_and_grads()))
        step()
        if scheduler is not None:
            scheduler.step()
        else:
            optimizer.param_groups[0]["lr"] *= 0.95
    compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"] - before
    print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f} over {steps} learning rates, {compiled} graph compiled")
    return losses, compiled


if __name__ == "__main__":
    main()
