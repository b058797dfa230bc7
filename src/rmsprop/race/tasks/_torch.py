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
        # What passed last, for `culprit`; None is a batch too.
        self._last: Any = None
        self._seen = False

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
        self._last, self._seen = batch, True
        loss = self.loss(batch)
        loss.backward()
        if self.max_norm is not None:
            import torch

            torch.nn.utils.clip_grad_norm_(self.params, self.max_norm)
        return float(loss.detach()), None

    def culprit(self, grads: None = None) -> str:
        """Name where a loss that is not finite began, as far as that can still be seen.

        A weight, if one is not finite: the step before made it so. Else the first layer whose output is not finite when
        the last batch passes once more, else a gradient. Of several weights or gradients the one nearest to the loss is
        named: they overflow on the way back from there.
        """
        if found := self._broken((name, param.detach()) for name, param in self._named):
            return found
        if layer := self._broken_layer():
            return layer
        found = self._broken((name, p.grad) for name, p in self._named if p.grad is not None)
        return f"the gradient of {found}" if found else "the loss"

    @staticmethod
    def _broken(tensors: Iterable[tuple[str, torch.Tensor]]) -> str:
        """Name the last tensor that is not finite; empty if all are."""
        found = ""
        for name, tensor in tensors:
            found = found if _finite(tensor.coalesce().values() if tensor.is_sparse else tensor) else name
        return found

    def _broken_layer(self) -> str:
        """Let the last batch pass once more and name the first layer whose output is not finite; empty if none."""
        import torch

        if not self._seen:
            return ""
        found: list[str] = []

        def look(name: str, module: torch.nn.Module, output: Any) -> None:
            if not found and not _finite(output):
                found.append(f"the output of {name or 'the model'} ({type(module).__name__})")

        hooks = [
            module.register_forward_hook(lambda module, given, output, name=name: look(name, module, output))
            for name, module in self.model.named_modules()
        ]
        try:
            with torch.no_grad():
                self.loss(self._last)
        finally:
            for hook in hooks:
                hook.remove()
        return found[0] if found else ""

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
        asked_threads: What `--threads` asks for instead, also where `short`; None leaves it to `threads`.
        short: `load` returns a part of the data, so that a trial takes about a second: what `--quick` does.
    """

    framework: Framework = "torch"
    device: str = "cpu"
    threads: int = 2
    notes: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    short: bool = False
    name: str = ""
    asked_threads: int | None = None

    @property
    def used_threads(self) -> int:
        """CPU threads while trials run, at most one per core."""
        # Little work shares badly: on a busy machine the threads would mostly wait for each other.
        own = 1 if self.short else self.threads
        return max(1, min(self.asked_threads or own, os.cpu_count() or 1))

    def session(self) -> AbstractContextManager[Any]:
        """Fix the number of threads and ask for arithmetic that repeats itself; both are put back afterwards.

        Raises:
            MissingDependency: torch is not installed.
            InputError: `device` is unknown or not there.
        """
        self.ready()
        return _session(self.used_threads, cuda=self.device.startswith("cuda"))

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


def _finite(output: Any) -> bool:
    """Whether all numbers are finite, of a tensor or of what a layer puts out: tuples and dicts of tensors."""
    import torch

    if isinstance(output, torch.Tensor):
        return not output.is_floating_point() or bool(torch.isfinite(output).all())
    if isinstance(output, dict):
        return all(map(_finite, output.values()))
    return all(map(_finite, output)) if isinstance(output, (tuple, list)) else True


@contextlib.contextmanager
def _session(threads: int, *, cuda: bool) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
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
