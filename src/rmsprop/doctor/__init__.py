"""The doctor: what happens inside an optimizer, per tensor, and what to do about it.

    with rmsprop.doctor.watch(optimizer, every=100, to="runs/x"):        torch.optim's or rmsprop.torch's RMSprop
        train()
    model.fit(..., callbacks=[rmsprop.doctor.keras.Watch(to="runs/x")])  Keras, in `rmsprop.doctor.keras`
    rmsprop.doctor.jax.examine(params, grads, state, lr=0.01)            JAX, in `rmsprop.doctor.jax`

    rmsprop.doctor.examine_checkpoint(rmsprop.checkpoints.read("run.pt"))    a checkpoint

At the command line: `rmsprop doctor run.pt`, `rmsprop doctor runs/x`. Importing this loads no framework.

    front ends (torch, jax, keras, checkpoint)  gather arrays
    measure                                     arrays -> Sample
    findings                                    Sample -> Finding: every threshold, text and remedy
    writers, picture                            samples and findings -> files
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rmsprop._advice import quiet
from rmsprop.doctor.checkpoint import Checkup, examine_checkpoint
from rmsprop.doctor.findings import Finding, History, examine
from rmsprop.doctor.measure import measure
from rmsprop.doctor.sample import Sample
from rmsprop.doctor.writers import read

if TYPE_CHECKING:
    from rmsprop.doctor.torch import Watch

__all__ = [
    "Checkup", "Finding", "History", "Sample", "examine", "examine_checkpoint", "measure", "quiet", "read", "watch",
]  # fmt: skip


def watch(optimizer: Any, every: int = 100, to: Any = None, **options: Any) -> Watch:
    """Watch a PyTorch optimizer while it trains; arguments and errors are those of `rmsprop.doctor.torch.Watch`.

    Raises:
        MissingDependency: torch is not installed.

    Example:
        >>> import torch, rmsprop.doctor
        >>> weight = torch.nn.Parameter(torch.ones(3))
        >>> optimizer = torch.optim.RMSprop([weight], lr=0.1, alpha=0.999)
        >>> with rmsprop.doctor.watch(optimizer) as watcher:
        ...     weight.grad = torch.ones(3)
        ...     optimizer.step()
        >>> print(watcher.findings[0].words)
        a first step of 31.6 x lr, as mean_sq starts at 0 with rho 0.999 (measured at step 1: 31.6 x lr)
    """
    importlib.import_module("rmsprop.torch")  # raises MissingDependency without torch
    from rmsprop.doctor.torch import Watch

    return Watch(optimizer, every=every, to=to, **options)
