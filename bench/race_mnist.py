"""Training time of the race task mnist with rmsprop.torch.RMSprop and with torch.optim.RMSprop, step and all.

Everyone trains the same network from the same weights on the same batches, a block of steps each in turn (A-B-C-A-B-C),
so that a slow moment of the machine falls on all of them. torch's optimizer runs in both forms that it has on a CPU,
and the ratio is that to its faster one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from rmsprop.errors import MissingDependency
from rmsprop.race import get
from rmsprop.race.task import Learner
from rmsprop.torch import RMSprop

PROMISE = 1.15
LR = 0.001
BLOCK = 50

FORMS: dict[str, Callable[[Any], Any]] = {
    "rmsprop.torch": lambda params: RMSprop(params, lr=LR),
    "torch, loop": lambda params: torch.optim.RMSprop(params, lr=LR, foreach=False),
    "torch, foreach": lambda params: torch.optim.RMSprop(params, lr=LR, foreach=True),
}


def _feed(learner: Learner, epochs: int) -> Iterator[Any]:
    for epoch in range(1, epochs + 1):
        yield from learner.batches(epoch)


def _block(learner: Learner, step: Callable[[], Any], feed: Iterator[Any]) -> tuple[int, float, float]:
    """Train up to BLOCK steps; return how many, the seconds, and those within the step."""
    clock = time.perf_counter
    inside, done, began = 0.0, 0, clock()
    for batch in itertools.islice(feed, BLOCK):
        learner.gradients(batch)
        before = clock()
        step()
        inside += clock() - before
        done += 1
    return done, clock() - began, inside


def main(quick: bool = False) -> dict[str, Any]:
    """Train, print the table, and return what it holds."""
    task: Any = get("mnist")
    try:
        data = task.load()
    except MissingDependency as error:
        print(f"mnist: not measured, {error}")
        return {}
    seeds, epochs = (1, 1) if quick else (3, task.budget.epochs)
    seconds: dict[str, list[float]] = {name: [] for name in FORMS}
    inside: dict[str, list[float]] = {name: [] for name in FORMS}
    scores: dict[str, list[float]] = {name: [] for name in FORMS}
    with task.session():
        for seed in range(seeds):
            learners = {name: task.learner(data, seed) for name in FORMS}
            steps = {name: make(learners[name].params).step for name, make in FORMS.items()}
            feeds = {name: _feed(learner, epochs) for name, learner in learners.items()}
            for turn in itertools.count():
                order = [*FORMS][turn % len(FORMS) :] + [*FORMS][: turn % len(FORMS)]
                blocks = {name: _block(learners[name], steps[name], feeds[name]) for name in order}
                if next(iter(blocks.values()))[0] < BLOCK:
                    break
                for name, (_, whole, within) in blocks.items():
                    seconds[name].append(whole)
                    inside[name].append(within)
            for name, learner in learners.items():
                scores[name].append(learner.score("test")[0])
    rows = [
        {
            "optimizer": name,
            "ms per step of training": 1e3 * statistics.median(seconds[name]) / BLOCK,
            "ms in the optimizer": 1e3 * statistics.median(inside[name]) / BLOCK,
            "test accuracy": statistics.fmean(scores[name]),
        }
        for name in FORMS
    ]
    ours, *theirs = FORMS
    # Block by block: what the machine did meanwhile falls out of the quotient.
    quotients = {name: statistics.median(b / a for a, b in zip(seconds[ours], seconds[name])) for name in theirs}
    ratio = min(quotients.values())
    kept = ratio >= PROMISE
    print(
        f"mnist, {epochs} epochs, {seeds} seeds: training with rmsprop.torch is {ratio:.2f} times as fast as with the "
        f"faster form of torch.optim.RMSprop; at least {PROMISE} asked: {'kept' if kept else 'BROKEN'}"
    )
    return {"training": rows, "ratios": quotients, "ratio": ratio, "promise": PROMISE, "kept": kept}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one epoch, one seed")
    print(json.dumps(main(parser.parse_args().quick), indent=2))
