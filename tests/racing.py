"""What the race tests share: a task that takes microseconds, and a way to run one."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
from typing import Any

import numpy as np
from rich.console import Console

from rmsprop.errors import FileError, MissingDependency
from rmsprop.race import Settings, conduct, get, race
from rmsprop.race import task as tasks
from rmsprop.race.task import Budget, Data, Metric


class Valley:
    """A learner: w walks down 0.5 |w - target|^2; it is scored by its distance, lower is better."""

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
    """A task without real data, for the machinery around tasks; its metric is better when lower."""

    name = "valley"
    title = "A valley"
    model = "three numbers"
    source = "none"
    license = "none needed"
    notes = ()
    framework = "numpy"
    metric = Metric(name="distance", better="lower", percent=False, target=0.1)
    budget = Budget(epochs=3, seeds=2, tuning_seeds=1, grid=(0.01, 0.1, 1.0))
    quick = budget

    def __init__(self, *, target=1.0, poison=None):
        self._target = target
        self._poison = poison or {}

    def load(self):
        return Data(content=self._target, sizes={"test": 1}, versions={}, fingerprint=f"{self._target}")

    def learner(self, data, seed):
        return Valley(data, seed, poison=self._poison.get(seed))

    def session(self):
        return contextlib.nullcontext()


class Absent(ValleyTask):
    name = "absent"

    def load(self):
        raise MissingDependency("the package valley-data is not here: rmsprop race absent --fetch")


class Broken(ValleyTask):
    name = "broken"

    def load(self):
        raise OSError(8, "Exec format error")


class Corrupt(ValleyTask):
    name = "corrupt"

    def load(self):
        raise FileError("valley.csv: SHA-256 1, expected 2")


@dataclasses.dataclass(frozen=True)
class Placed:
    """A valley with a device and a short form, like a torch task."""

    name: str = "placed"
    device: str = "cpu"
    short: bool = False
    asked_threads: int | None = None
    needs: tuple[str, ...] = ()
    valley: Any = dataclasses.field(default_factory=ValleyTask)

    def __getattr__(self, name):
        return getattr(self.valley, name)

    def load(self):
        return dataclasses.replace(self.valley.load(), fingerprint=f"short={self.short}")


def pretend(monkeypatch):
    """Let the command know the tasks of this file, and draw nothing: that takes a second and is tested elsewhere."""
    known = {task.name: task for task in (ValleyTask(), Absent(), Broken(), Corrupt(), Placed())}
    monkeypatch.setattr(tasks, "get", lambda name: known[name] if name in known else get(name))
    monkeypatch.setattr("rmsprop.race.report.draw_png", lambda *_: b"")
    monkeypatch.setattr("rmsprop.race.report.draw_svg", lambda *_: "<svg></svg>")


def one(name, folder, **wanted):
    """Race a task as the command does, RMSprop alone; return the outcome and what was printed."""
    console = Console(file=io.StringIO(), width=120, color_system=None)
    outcome = conduct.one(name, conduct.Wanted(**{"optimizers": ("rmsprop",), **wanted}), folder, console)
    return outcome, console.file.getvalue()


def run(task, *, optimizers=("adam", "rmsprop"), seeds=2, epochs=2, **options):
    """Run a small race of `task`."""
    return race(task, Settings.of(task, optimizers=optimizers, seeds=seeds, epochs=epochs, quick=True), **options)


def curves(results):
    """Everything of a race that does not depend on the clock."""
    return {key: (t.score, t.loss, t.train_loss, t.steps, t.diverged) for key, t in results.trials.items()}
