"""What a benchmark task is, and where the tasks are found.

A task says where its data come from, and what the model, the loss, the metric and the budget are. It says nothing about
optimizers, seeds, tuning, timing or reports: `rmsprop.race.run` does those for every task alike. An epoch is a pass
over the examples, or a fixed number of batches.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import hashlib
import importlib
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol

from rmsprop.errors import InputError, MissingDependency

__all__ = [
    "Budget", "Data", "Framework", "Learner", "Metric", "Split", "Task", "TorchTask", "get", "import_package",
    "make_data", "names", "nearest",
]  # fmt: skip

Framework = Literal["numpy", "torch"]
Split = Literal["valid", "test"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """What a task is judged by.

    Example:
        >>> Metric(name="accuracy", better="higher", percent=True, target=0.96).text(0.9737)
        '97.37 %'
    """

    name: str  # the usual term, such as "accuracy"
    better: Literal["higher", "lower"]
    percent: bool = False  # stored as a fraction and shown in percent
    target: float  # what RMSprop is expected to reach with the default budget, as a mean over seeds

    def text(self, value: float) -> str:
        """Format a value."""
        return f"{100 * value:.2f} %" if self.percent else f"{value:.4g}"

    def gap_text(self, value: float) -> str:
        """Format a difference of two values: percentage points are not percent."""
        return f"{100 * value:.2f} points" if self.percent else f"{value:.3g}"

    def goodness(self, value: float) -> float:
        """Return the value with its sign set so that larger is better; NaN is the worst."""
        sign = 1 if self.better == "higher" else -1
        return -math.inf if math.isnan(value) else sign * value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
    """What every optimizer may spend."""

    epochs: int  # per trial
    seeds: int  # reported trials per optimizer
    tuning_seeds: int  # trials per optimizer and learning rate, on other seeds, judged on the validation split
    grid: tuple[float, ...]  # the learning rates tried, ascending


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """What `Task.load` returns."""

    content: Any  # what the task's own learner reads; no other code uses it
    sizes: Mapping[str, int]  # number of examples of each split
    versions: Mapping[str, str]  # of the packages that the data and the model depend on
    fingerprint: str  # a digest of the examples and their split; results of another one cannot be resumed


def make_data(content: Any, sizes: Mapping[str, int], digest_of: Iterable[bytes], **versions: str) -> Data:
    """Make a `Data` with the fingerprint of the bytes in `digest_of`, one after the other."""
    digest = hashlib.sha256()
    for piece in digest_of:
        digest.update(piece)
    return Data(content=content, sizes=sizes, versions=versions, fingerprint=digest.hexdigest()[:16])


def import_package(module: str, *, extra: str, purpose: str, package: str | None = None) -> Any:
    """Import an optional package; without it MissingDependency names the extra that brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependency.of(package or module, extra=extra, purpose=purpose) from error


class Learner(Protocol):
    """One model in training, from one seed.

    A learner that can show what its model makes also has `sample() -> str`. A learner with sparse gradients has
    `sparse` and `make_dense()`.
    """

    @property
    def params(self) -> Any:
        """What an optimizer of the task's framework takes, and updates in place."""

    def batches(self, epoch: int) -> Iterable[Any]:
        """Yield the batches of epoch `epoch`, counted from 1; they depend on the seed and the epoch alone."""

    def gradients(self, batch: Any) -> tuple[float, Any]:
        """Return the batch's loss and what `step` is called with."""

    def score(self, split: Split) -> tuple[float, float]:
        """Return the metric and the mean loss on a split."""

    def find_nonfinite(self, grads: Any) -> str:
        """Name the tensor or the layer where it began that the loss is not finite, as far as that can be seen."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A row of `rmsprop.race.tasks`; by itself a task in NumPy.

    The data and the model are in a module of that package with `load(task) -> Data` and a class `Learner(task, content,
    seed)`, imported when they are needed.
    """

    name: str  # what the user calls it
    title: str  # what is learned
    model: str  # the network, its number of parameters, and the batch size
    source: str  # where the data come from
    license: str  # of the data
    metric: Metric
    budget: Budget
    quick: Budget  # the budget of --quick
    notes: tuple[str, ...] = ()  # remarks for the report
    module: str = ""  # the name of the module, if it is not `name`
    framework: Framework = "numpy"
    needs: tuple[str, ...] = ()  # what `load` reads of `rmsprop.race.sources`, and --fetch downloads
    device: str = "cpu"  # any torch device
    asked_threads: int | None = None  # the number of --threads; None: the task's own
    short: bool = False  # load a part of the data, so that a trial takes about a second, as --quick does

    def configure(self, *, device: str | None = None, threads: int | None = None, short: bool | None = None) -> Task:
        """Return the task with these options; None keeps what it has, and `short` is for torch tasks alone.

        Raises:
            InputError: A device or threads for a task in NumPy, or an empty name of a device.
        """
        if device not in (None, "cpu"):
            raise InputError(f"{self.name} runs in NumPy, on the CPU: --device {device} is for torch tasks")
        if threads is not None:
            raise InputError(f"{self.name} runs in NumPy, on one thread: --threads is for torch tasks")
        return self

    @property
    def used_threads(self) -> int | None:
        """CPU threads of torch; None for a task in NumPy."""
        return None

    def load(self) -> Data:
        """Read the data and split them, or raise MissingDependency with the package and how to get it."""
        return self._import_module().load(self)

    def learner(self, data: Data, seed: int) -> Learner:
        """Build the model with the weights of `seed`."""
        return self._import_module().Learner(self, data.content, seed)

    def session(self) -> AbstractContextManager[Any]:
        """Limit NumPy's matrix products to one thread: these are too small to share."""
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        return threadpool_limits(limits=1)

    def _import_module(self) -> Any:
        return importlib.import_module(f"rmsprop.race.tasks.{self.module or self.name}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TorchTask(Task):
    """A task in PyTorch."""

    framework: Framework = "torch"
    # CPU threads while trials run; the last bits of sums depend on it. Most of the matrices are too small to share: a
    # second thread would spend its time waiting.
    threads: int = 1

    def configure(self, *, device: str | None = None, threads: int | None = None, short: bool | None = None) -> Task:
        """Return the task with these options; None keeps what it has."""
        if device is not None and not device.strip():
            raise InputError(f"--device {device!r}, expected a torch device such as cpu or cuda")
        changes: dict[str, Any] = {"device": device, "asked_threads": threads, "short": short}
        return dataclasses.replace(self, **{name: value for name, value in changes.items() if value is not None})

    @property
    def used_threads(self) -> int:
        """CPU threads while trials run, at most one per core."""
        default = 1 if self.short else self.threads
        return max(1, min(self.asked_threads or default, os.cpu_count() or 1))

    def load(self) -> Data:
        """Check torch and the device, then read the data, which may take long, and split them."""
        self._check_device()
        return super().load()

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """Set the number of threads and choose reproducible arithmetic; both are restored afterwards."""
        self._check_device()
        import torch

        with contextlib.ExitStack() as stack:
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(self.used_threads)
            # torch itself makes the sparse gradients; without this line torch.optim.Adagrad warns of unchecked ones.
            stack.enter_context(torch.sparse.check_sparse_tensor_invariants(enable=False))
            # On a CPU the operations used here are reproducible anyway, for the same number of threads.
            if self.device.startswith("cuda"):
                _make_cuda_reproducible(stack)
            yield

    def _check_device(self) -> None:
        torch = import_package("torch", extra="torch", purpose=f"the task {self.name}")
        try:
            torch.ones(1, device=self.device).sum().item()
        # An unknown name, a build without CUDA, a device index that does not exist: each raises another class.
        except (RuntimeError, AssertionError, ValueError, NotImplementedError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"device={self.device!r} cannot be used: {reason}. Expected a torch device of this machine, such as cpu"
            ) from error


def _make_cuda_reproducible(stack: contextlib.ExitStack) -> None:
    """Choose CUDA kernels that give the same bits each time, where they exist, until the stack is closed."""
    import torch

    # cuBLAS needs this before its first use, says the documentation of torch.use_deterministic_algorithms.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    was_on, warned = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    stack.callback(torch.use_deterministic_algorithms, was_on, warn_only=warned)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling fresh memory helps to find errors, and costs time in every step.
    for owner, name in ((torch.backends.cudnn, "benchmark"), (torch.utils.deterministic, "fill_uninitialized_memory")):
        stack.callback(setattr, owner, name, getattr(owner, name))
        setattr(owner, name, False)


def _load_table() -> Mapping[str, Task]:
    # Not imported at the top: the table itself is made of this module's classes.
    return importlib.import_module("rmsprop.race.tasks").TASKS


def names() -> tuple[str, ...]:
    """Return the tasks' names."""
    return tuple(_load_table())


def get(name: str) -> Task:
    """Return the task called `name`.

    Raises:
        InputError: No such task; the message suggests the nearest name.

    Example:
        >>> get("digits").metric.name
        'accuracy'
        >>> get("digit")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        rmsprop.errors.InputError: unknown task 'digit': did you mean 'digits'? known: digits, ...
    """
    table = _load_table()
    if name not in table:
        raise InputError(f"unknown task {name!r}{nearest(name, table)}")
    return table[name]


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: the nearest known name, and all of them."""
    known = list(known)
    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.4)
    return f"{f': did you mean {close[0]!r}?' if close else ';'} known: {', '.join(known)}"
