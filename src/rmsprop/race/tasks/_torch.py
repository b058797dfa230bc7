"""What every torch task shares: a learner over an nn.Module, and a session of fixed threads.

torch is imported by the functions, not by this module, so that tasks can be listed without it. A task whose model is a
class of its own keeps it in a module that imports torch at its top, and imports that from `learner`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar

from rmsprop.errors import InputError, MissingDependency
from rmsprop.race.task import Framework, Split

if TYPE_CHECKING:
    import torch

__all__ = ["TorchLearner", "TorchTask", "seeded", "shuffled"]


class TorchLearner:
    """A learner (see `rmsprop.race.task`) over a torch model; a subclass adds `batches`, `loss` and `score`.

    Args:
        model: Its trainable parameters are what is raced. Moved to `device`.
        device: Where it trains.

    Attributes:
        params: The trainable parameters, in the order of `model.parameters()`.
        max_norm: Clip the gradients of all parameters to this global norm; None: no clipping. The same for everyone.
    """

    max_norm: ClassVar[float | None] = None

    def __init__(self, model: torch.nn.Module, *, device: str | torch.device = "cpu") -> None:
        import torch

        self.device = torch.device(device)
        self.model = model.to(self.device)
        self.model.train()
        self._named = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
        self.params = [p for _, p in self._named]

    def batches(self, epoch: int) -> Iterable[Any]:
        """Yield what epoch `epoch` feeds in, from the seed and the epoch alone."""
        raise NotImplementedError

    def loss(self, batch: Any) -> torch.Tensor:
        """Return the batch's mean loss, a tensor of one element."""
        raise NotImplementedError

    def score(self, split: Split) -> tuple[float, float]:
        """Return the metric and the mean loss on a split."""
        raise NotImplementedError

    def gradients(self, batch: Any) -> tuple[float, None]:
        """Return the loss; the gradients are left in the parameters' `.grad`, where the optimizer looks for them."""
        for param in self.params:
            param.grad = None
        loss = self.loss(batch)
        loss.backward()
        if self.max_norm is not None:
            import torch

            torch.nn.utils.clip_grad_norm_(self.params, self.max_norm)
        return float(loss.detach()), None

    def culprit(self, grads: None = None) -> str:
        """Name the first parameter, then the first gradient, that is not finite."""
        import torch

        tensors = [(name, param.detach()) for name, param in self._named]
        tensors += [(f"the gradient of {name}", p.grad) for name, p in self._named if p.grad is not None]
        for name, tensor in tensors:
            values = tensor.coalesce().values() if tensor.is_sparse else tensor
            if not bool(torch.isfinite(values).all()):
                return name
        return "the loss"

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Hold the model in its evaluation mode, without gradients; then let it train again."""
        import torch

        self.model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.model.train()


@dataclasses.dataclass(frozen=True)
class TorchTask:
    """The base of a torch task: a frozen dataclass whose fields a subclass fills in as `digits` does.

    Attributes:
        framework: "torch".
        device: Any torch device: `dataclasses.replace(task, device="cuda")` is what `--device cuda` does.
        threads: CPU threads while trials run, never more than there are cores; one where `short`. Sums depend on it in
            their last bits.
        notes: For the report.
        needs: Names of the sources in `rmsprop.race.data` that `load` reads: what `--fetch` brings.
        short: `load` returns a part of the data, so that a trial takes about a second: what `--quick` does.
    """

    framework: Framework = "torch"
    device: str = "cpu"
    threads: int = 2
    notes: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    short: bool = False
    name: str = ""

    def session(self) -> AbstractContextManager[Any]:
        """Fix the number of threads and ask for arithmetic that repeats itself; both are put back afterwards.

        Raises:
            MissingDependency: torch is not installed.
            InputError: `device` is unknown or not there.
        """
        self.ready()
        # Little work shares badly: on a busy machine the threads would mostly wait for each other.
        return _session(1 if self.short else self.threads, cuda=self.device.startswith("cuda"))

    def ready(self) -> None:
        """Refuse to begin without torch, or on a device that is not there.

        Raises:
            MissingDependency: torch is not installed.
            InputError: `device` is unknown or not there.
        """
        try:
            import torch
        except ImportError as error:
            raise MissingDependency.of("torch", extra="torch", purpose=f"the task {self.name}") from error
        try:
            torch.ones(1, device=self.device).sum().item()
        # An unknown name, a build without CUDA, a device index that does not exist: each its own exception.
        except (RuntimeError, AssertionError, ValueError, NotImplementedError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise InputError(
                f"device={self.device!r} cannot be used: {reason}. Expected a torch device of this machine, such as cpu"
            ) from error


@contextlib.contextmanager
def _session(threads: int, *, cuda: bool) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(threads, os.cpu_count() or 1)))
    try:
        # Sparse gradients come from torch itself; without a word here torch.optim.Adagrad warns of unchecked ones.
        # On a CPU the operations used here repeat themselves anyway, for the same number of threads.
        unchecked = torch.sparse.check_sparse_tensor_invariants(enable=False)
        with unchecked, _repeatable() if cuda else contextlib.nullcontext():
            yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _repeatable() -> Iterator[None]:
    """Choose CUDA kernels that give the same bits each time, where there are such."""
    import torch

    deterministic, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    benchmark, fill = torch.backends.cudnn.benchmark, torch.utils.deterministic.fill_uninitialized_memory
    # What cuBLAS asks for before its first use, by the documentation of torch.use_deterministic_algorithms.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    # Filling fresh memory finds errors, of which there are none here, and costs time in every step.
    torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark
        torch.utils.deterministic.fill_uninitialized_memory = fill


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw weights from `seed` inside, and leave torch's own generator as it was.

    Example:
        >>> import torch
        >>> with seeded(3):
        ...     first = torch.nn.Linear(2, 2).weight
        >>> with seeded(3):
        ...     bool((torch.nn.Linear(2, 2).weight == first).all())
        True
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def shuffled(count: int, *, seed: int, epoch: int) -> torch.Tensor:
    """Return the numbers 0 to `count` - 1 in an order drawn from the seed and the epoch, int64, on the CPU."""
    import numpy as np
    import torch

    return torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(count))
