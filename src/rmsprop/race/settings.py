"""What a race was asked for."""

from __future__ import annotations

import dataclasses

from rmsprop.errors import InputError, StateError
from rmsprop.race import choice
from rmsprop.race.task import Task

__all__ = ["FIRST_TUNING_SEED", "Settings"]

FIRST_TUNING_SEED = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What was asked for. Two races may be joined if only `optimizers` and `seeds` differ.

    Attributes:
        task: The task's name.
        optimizers: The optimizers, RMSprop among them or not, in the order asked for.
        seeds: Of the reported trials.
        tuning_seeds: Of the trials that choose the learning rate; none of `seeds`.
        epochs: Per trial.
        grid: The learning rates tried, ascending.
        device: Where it trained: another one rounds otherwise and has other times.
        short: On a part of the data.
        threads: CPU threads asked for; None is the task's own number.
    """

    task: str
    optimizers: tuple[str, ...]
    seeds: tuple[int, ...]
    tuning_seeds: tuple[int, ...]
    epochs: int
    grid: tuple[float, ...]
    device: str = "cpu"
    short: bool = False
    threads: int | None = None

    def __post_init__(self) -> None:
        if not self.seeds or not self.tuning_seeds or not self.optimizers or not self.grid:
            raise InputError("a race needs at least one optimizer, one seed, one tuning seed and one learning rate")
        if set(self.seeds) & set(self.tuning_seeds):
            raise InputError(f"seeds {self.seeds} and tuning_seeds {self.tuning_seeds} overlap: that would be a leak")
        if self.epochs < 1:
            raise InputError(f"epochs={self.epochs}, expected at least 1")

    @classmethod
    def of(
        cls,
        task: Task,
        *,
        optimizers: tuple[str, ...] | None = None,
        seeds: int | None = None,
        epochs: int | None = None,
        grid: tuple[float, ...] | None = None,
        quick: bool = False,
    ) -> Settings:
        """Fill in the task's budget for what is None.

        Raises:
            InputError: No seed, no epoch, no rate, or so many seeds that they would meet the tuning seeds.
        """
        budget = task.quick if quick else task.budget
        count = budget.seeds if seeds is None else seeds
        if not 1 <= count <= FIRST_TUNING_SEED:
            raise InputError(f"seeds={count}, expected 1 to {FIRST_TUNING_SEED}")
        return cls(
            task=task.name,
            optimizers=choice.DEFAULT if optimizers is None else optimizers,
            seeds=tuple(range(count)),
            tuning_seeds=tuple(FIRST_TUNING_SEED + i for i in range(budget.tuning_seeds)),
            epochs=budget.epochs if epochs is None else epochs,
            grid=budget.grid if grid is None else grid,
            device=getattr(task, "device", "cpu"),
            short=getattr(task, "short", False),
            threads=getattr(task, "asked_threads", None),
        )

    def refuse_another_protocol(self, other: Settings, *, where: object) -> None:
        """Raise StateError if `other`, found in `where`, was run by other rules than these."""
        for name in ("task", "epochs", "grid", "tuning_seeds", "device", "short", "threads"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                raise StateError(
                    f"{where} holds a race with {name}={theirs}, this one asks for {mine}: "
                    "resume it without changing that, or race into another --out"
                )
