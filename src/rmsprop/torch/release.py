"""Gradient release: step each parameter as soon as backward has its gradient, and free the gradient.

Only one or a few gradients exist at a time: training needs the memory of weights and state alone.

Source: the idea is from K. Lv et al., arXiv:2306.09782 (LOMO); the hook is torch's
`Tensor.register_post_accumulate_grad_hook`.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor, nn

from rmsprop.errors import InputError
from rmsprop.torch.optimizer import RMSprop

__all__ = ["Release", "release_gradients"]


class Release:
    """The hooks of one `release_gradients` call; `remove()` removes them."""

    def __init__(self, optimizer: RMSprop) -> None:
        # Hooks belong to the parameters: a strong reference would keep the optimizer alive as long as the model.
        self._optimizer = weakref.ref(optimizer)
        self._stepped: set[int] = set()
        params = {id(p): p for group in optimizer.param_groups for p in group["params"] if p.requires_grad}
        self._handles: list[Any] = [p.register_post_accumulate_grad_hook(self._step) for p in params.values()]
        self._handles.append(optimizer.register_step_pre_hook(self._end_step))
        optimizer.releases_gradients = True

    def remove(self) -> None:
        """Go back to gradients that are kept until `optimizer.step()`."""
        optimizer = self._optimizer()
        if self._handles and optimizer is not None:
            optimizer.releases_gradients = False
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _step(self, param: Tensor) -> None:
        optimizer = self._optimizer()
        if optimizer is None:
            return
        _check_clipping(optimizer)
        if id(param) in self._stepped:
            raise RuntimeError(
                "release_gradients: a second backward before optimizer.step(): gradients cannot be accumulated, "
                "because the first ones have been used and freed. Call optimizer.step() after each backward, or train "
                "without release_gradients to accumulate"
            )
        with torch.no_grad():
            optimizer.step_parameter(param)
        param.grad = None
        self._stepped.add(id(param))

    def _end_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if any({**optimizer.__dict__, **kwargs}.get(name) is not None for name in ("grad_scale", "found_inf")):
            raise RuntimeError(
                "release_gradients: GradScaler decides after backward whether a step is done, but here it is done "
                "inside backward; train in bfloat16, which needs no loss scale, or without release_gradients"
            )
        self._stepped.clear()


def release_gradients(model: nn.Module, optimizer: RMSprop) -> Release:
    """Step every parameter of `optimizer` inside backward and free its gradient.

    The training loop stays as it is: `loss.backward()`, `optimizer.step()` (which then only marks the end of the step),
    `scheduler.step()`. A parameter that is used several times steps once, with the sum of its gradients.

    Args:
        model: The model that is trained; read only to raise for a DistributedDataParallel model.
        optimizer: An `rmsprop.torch.RMSprop` over its parameters.

    Returns:
        A handle with `remove()`.

    Raises:
        InputError: Clipping to a global norm (`max_norm`), which needs all gradients at once; a
            DistributedDataParallel model, whose gradients are averaged after the hook; or a second call.
        RuntimeError: Later, in backward: gradients are being accumulated. In step: a GradScaler is in use.

    Example:
        >>> import torch
        >>> from rmsprop.torch import RMSprop, release_gradients
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = RMSprop(model.parameters(), lr=0.01)
        >>> handle = release_gradients(model, optimizer)
        >>> model(torch.ones(1, 2)).sum().backward()
        >>> optimizer.step()
        >>> model.weight.grad is None
        True
    """
    if not isinstance(optimizer, RMSprop):
        raise InputError(f"optimizer: a {type(optimizer).__name__}, expected a rmsprop.torch.RMSprop")
    if optimizer.releases_gradients:
        raise InputError(
            "optimizer: it already releases its gradients; call remove() on what the first release_gradients returned"
        )
    _check_clipping(optimizer)
    if any(isinstance(module, nn.parallel.DistributedDataParallel) for module in model.modules()):
        raise InputError(
            "release_gradients: DistributedDataParallel averages gradients after backward has stepped and freed them; "
            "use FSDP2 (fully_shard), or train without release_gradients"
        )
    return Release(optimizer)


def _check_clipping(optimizer: RMSprop) -> None:
    if optimizer.max_norm:
        raise InputError(
            "release_gradients: max_norm needs the norm of all gradients before the first step, but here each gradient "
            "is used and freed at once; clip by value in a hook, or train without release_gradients"
        )
