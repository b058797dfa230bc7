"""Record checkpoints of libraries that are not in the test environment: `python record.py timm`, or another name.

Each writes its own file of a run stopped after 5 of 10 steps, and `<name>.npz` with the run itself: the gradients of
every step, the learning rates, the parameters at the stop and at the end. The tests convert the file, go on with
the recorded gradients and compare with the end.

Recorded with timm 1.0.31, bitsandbytes 0.50.2 (CPU), paddlepaddle 3.3.1 (CPU), flax 0.12.8 with optax 0.2.8.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
STOP, END = 5, 10
SHAPES = {"w": (3, 4), "b": (4,)}


def run_of(shapes, seed):
    rng = np.random.default_rng(seed)
    start = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    # In sixteenths, which compress well.
    grads = {n: np.round(16 * rng.normal(size=(END, *s))).astype(np.float32) / 16 for n, s in shapes.items()}
    lrs = 0.01 * (1 + 0.5 * np.sin(np.arange(END)))
    return start, grads, lrs


def keep(name, grads, lrs, stop, end):
    arrays = {f"grads_{k}": g for k, g in grads.items()}
    arrays |= {f"stop_{k}": p for k, p in stop.items()} | {f"end_{k}": p for k, p in end.items()}
    np.savez_compressed(HERE / f"{name}.npz", lrs=lrs, **arrays)


def torch_run(name, shapes, make):
    import torch

    start, grads, lrs = run_of(shapes, 1)
    params = {k: torch.nn.Parameter(torch.tensor(p)) for k, p in start.items()}
    optimizer = make(list(params.values()))
    stop = {}
    for t in range(END):
        if t == STOP:
            stop = {k: p.detach().numpy().copy() for k, p in params.items()}
            torch.save(optimizer.state_dict(), HERE / f"{name}.pt")
        optimizer.param_groups[0]["lr"] = float(lrs[t])
        for k, p in params.items():
            p.grad = torch.tensor(grads[k][t])
        optimizer.step()
    keep(name, grads, lrs, stop, {k: p.detach().numpy() for k, p in params.items()})


def timm():
    import importlib.util
    import types

    # Not `import timm`, which imports torchvision.
    folder = Path(importlib.util.find_spec("timm").origin).parent
    for package, path in (("timm", folder), ("timm.optim", folder / "optim")):
        sys.modules[package] = types.ModuleType(package)
        sys.modules[package].__path__ = [str(path)]
    from timm.optim.rmsprop_tf import RMSpropTF

    torch_run("timm", SHAPES, lambda p: RMSpropTF(p, momentum=0.9, eps=1e-3))


def bitsandbytes():
    import bitsandbytes as bnb

    torch_run("bitsandbytes32", SHAPES, lambda p: bnb.optim.RMSprop(p, alpha=0.9, optim_bits=32))
    torch_run("bitsandbytes8", {"w": (80, 60), "b": (60,)}, lambda p: bnb.optim.RMSprop8bit(p, alpha=0.9))


def paddle():
    import paddle

    for name, options in (("paddle", {}), ("paddle_centered", {"momentum": 0.9, "centered": True, "epsilon": 1e-3})):
        start, grads, lrs = run_of(SHAPES, 2)
        params = {}
        for k, p in start.items():
            params[k] = paddle.create_parameter(p.shape, "float32", name=f"{name}_{k}")
            params[k].set_value(p)
        optimizer = paddle.optimizer.RMSProp(0.01, rho=0.9, parameters=list(params.values()), **options)
        stop = {}
        for t in range(END):
            if t == STOP:
                stop = {k: p.numpy() for k, p in params.items()}
                paddle.save(optimizer.state_dict(), str(HERE / f"{name}.pdopt"))
            optimizer.set_lr(float(lrs[t]))
            loss = sum((p * paddle.to_tensor(grads[k][t])).sum() for k, p in params.items())
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()
        keep(name, grads, lrs, stop, {k: p.numpy() for k, p in params.items()})


def flax():
    import jax.numpy as jnp
    import optax
    from flax import serialization

    start, grads, lrs = run_of(SHAPES, 3)
    table = jnp.asarray(lrs, jnp.float32)
    tx = optax.rmsprop(lambda count: table[count], momentum=0.9, centered=True, eps=1e-3)
    params = {k: jnp.asarray(p) for k, p in start.items()}
    state = tx.init(params)
    stop = {}
    for t in range(END):
        if t == STOP:
            stop = {k: np.asarray(p) for k, p in params.items()}
            tree = {"params": params, "opt_state": state, "step": np.int32(t), "loss": 0.5}
            (HERE / "flax.msgpack").write_bytes(serialization.to_bytes(tree))
        updates, state = tx.update({k: jnp.asarray(g[t]) for k, g in grads.items()}, state, params)
        params = optax.apply_updates(params, updates)
    keep("flax", grads, lrs, stop, {k: np.asarray(p) for k, p in params.items()})


if __name__ == "__main__":
    {"timm": timm, "bitsandbytes": bitsandbytes, "paddle": paddle, "flax": flax}[sys.argv[1]]()
