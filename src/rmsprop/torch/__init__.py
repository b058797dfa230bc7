"""RMSprop for PyTorch: torch.optim.RMSprop's interface over the compiled step.

from rmsprop.torch import RMSprop      # instead of: from torch.optim import RMSprop
"""

from __future__ import annotations

from rmsprop.errors import MissingDependency

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise MissingDependency.of("torch", extra="torch", purpose="rmsprop.torch") from error

from rmsprop.torch.groups import param_groups
from rmsprop.torch.optimizer import RMSprop
from rmsprop.torch.release import release_gradients

__all__ = ["RMSprop", "param_groups", "release_gradients"]
