"""Small trainings for the doctor to watch."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import rmsprop.torch  # noqa: E402
from rmsprop.doctor import watch  # noqa: E402

TorchRMSprop = torch.optim.RMSprop
MAKERS = {"torch": TorchRMSprop, "rmsprop": rmsprop.torch.RMSprop}


def randn(*shape, seed=0, scale=1.0):
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def make_params(*shapes):
    return [torch.nn.Parameter(randn(*shape, seed=i)) for i, shape in enumerate(shapes or [(), (7,), (3, 5)])]


def train(optimizer, steps, *, start=0):
    """Step with random gradients."""
    for step in range(start, start + steps):
        for group in optimizer.param_groups:
            for i, param in enumerate(group["params"]):
                param.grad = randn(*param.shape, seed=1000 * (step + 1) + i)
        optimizer.step()


def watch_weight(weight, grads, steps, *, make=TorchRMSprop, every=1, **options):
    """Step one weight by grads(step); return the watch."""
    param = torch.nn.Parameter(weight)
    optimizer = make([param], **options)
    with watch(optimizer, every=every, names={"w": param}, budget=None) as watcher:
        for step in range(1, steps + 1):
            param.grad = grads(step)
            optimizer.step()
    return watcher


def noise(*shape, scale=1.0):
    return lambda step: randn(*shape, seed=step, scale=scale(step) if callable(scale) else scale)


def kinds_of(watcher):
    return {finding.kind for finding in watcher.findings}


def find(watcher, kind):
    (finding,) = [finding for finding in watcher.findings if finding.kind == kind]
    return finding
