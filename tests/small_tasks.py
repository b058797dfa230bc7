"""Tasks that take microseconds, and functions that race them."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
from typing import Any

import numpy as np
from rich.console import Console

from rmsprop.race import Settings, conduct, race
from rmsprop.race.task import Budget, Data, Metric, Task, TorchTask


class Valley:
    """A learner that minimizes 0.5 |w - target|^2, scored by the distance; its gradient number `poison` is NaN."""

    def __init__(self, data, seed, *, poison=None):
        self.params = {"w": np.random.default_rng(seed).normal(size=3)}
        self.seed = seed
        self._target = data.content
        self._poison = poison
        self._seen = 0

    def batches(self, epoch):
        return iter([epoch] * 4)

    def gradients(self, batch):
        self._seen += 1
        difference = self.params["w"] - self._target
        loss = 0.5 * float(difference @ difference)
        if self._seen == self._poison:
            return math.nan, {"w": difference * math.nan}
        return loss, {"w": difference}

    def score(self, split):
        distance = float(np.linalg.norm(self.params["w"] - self._target))
        return distance, 0.5 * distance**2

    def find_nonfinite(self, grads):
        return "the gradient of w" if not np.isfinite(grads["w"]).all() else "w"


class ValleyTask:
    """A task without real data; lower scores are better. `poison`: seed -> number of the gradient that is NaN."""

    name = "valley"
    title = "A valley"
    source = "none"
    license = "none needed"
    notes = ()
    framework = "numpy"
    metric = Metric(name="distance", better="lower", percent=False, target=0.1)
    budget = Budget(epochs=3, seeds=2, tuning_seeds=1, grid=(0.01, 0.1, 1.0))
    quick = budget
    needs, device, asked_threads, used_threads, short = (), "cpu", None, None, False
    configure = Task.configure

    def __init__(self, *, target=1.0, poison=None, model="three numbers"):
        self.model = model
        self._target = target
        self._poison = poison or {}

    def load(self):
        return Data(content=self._target, sizes={"test": 1}, versions={}, fingerprint=f"{self._target}")

    def learner(self, data, seed):
        return Valley(data, seed, poison=self._poison.get(seed))

    def session(self):
        return contextlib.nullcontext()


class FailingTask(ValleyTask):
    """A task whose data cannot be loaded."""

    def __init__(self, name, error):
        super().__init__()
        self.name, self._error = name, error

    def load(self):
        raise self._error


@dataclasses.dataclass(frozen=True)
class DeviceTask:
    """A valley with a device, threads and a short form, like a torch task."""

    name: str = "device"
    device: str = "cpu"
    short: bool = False
    asked_threads: int | None = None
    needs: tuple[str, ...] = ()
    valley: Any = dataclasses.field(default_factory=ValleyTask)
    used_threads = 1
    configure = TorchTask.configure

    def __getattr__(self, name):
        return getattr(self.valley, name)

    def load(self):
        return dataclasses.replace(self.valley.load(), fingerprint=f"short={self.short}")


def run_race(task, *, optimizers=("adam", "rmsprop"), seeds=2, epochs=2, **options):
    """Run a small race of `task`."""
    return race(task, Settings.of(task, optimizers=optimizers, seeds=seeds, epochs=epochs, quick=True), **options)


def run_command(name, folder, **options):
    """Race a task as the command does, RMSprop alone by default; return the outcome and what was printed."""
    console = Console(file=io.StringIO(), width=120, color_system=None)
    options = conduct.RaceOptions(**{"optimizers": ("rmsprop",), **options})
    return conduct.run_task(name, options, folder, console), console.file.getvalue()


def collect_curves(results):
    """Return everything of a benchmark that does not depend on the clock."""
    return {key: (t.score, t.loss, t.train_loss, t.steps, t.diverged) for key, t in results.trials.items()}
