"""Step hooks without the profiler record that torch wraps them in: only profilers need it, and it is slow."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any

from torch.optim.optimizer import Optimizer, _global_optimizer_post_hooks, _global_optimizer_pre_hooks

__all__ = ["heard", "hooked"]


def heard(optimizer: Optimizer) -> bool:
    """Whether a hook wants to know of the optimizer's steps."""
    return bool(
        _global_optimizer_pre_hooks
        or _global_optimizer_post_hooks
        or optimizer._optimizer_step_pre_hooks
        or optimizer._optimizer_step_post_hooks
    )


def hooked(step: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call `step` between the hooks of the optimizer, args[0], as `Optimizer.profile_hook_step` does.

    Raises:
        RuntimeError: A pre-hook returned something else than None or (args, kwargs). Nothing has changed then.
    """
    optimizer = args[0]
    for hook in chain(_global_optimizer_pre_hooks.values(), optimizer._optimizer_step_pre_hooks.values()):
        changed = hook(optimizer, args, kwargs)
        if changed is not None:
            if not isinstance(changed, tuple) or len(changed) != 2:
                raise RuntimeError(f"{hook} must return None or a tuple of (new_args, new_kwargs), but got {changed}.")
            args, kwargs = changed
    out = step(*args, **kwargs)
    for hook in chain(optimizer._optimizer_step_post_hooks.values(), _global_optimizer_post_hooks.values()):
        hook(optimizer, args, kwargs)
    return out
