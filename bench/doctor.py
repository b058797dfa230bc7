"""What watching costs: the same training step with and without `rmsprop.doctor.watch`, in turn.

The promise: at most 1 % of the training time at every=100, lines of JSON and TensorBoard's event files included.
Samples are rare, so a round is 100 steps with exactly one sample (budget=None). Beside it, whole trainings as users
have them (budget=0.01, the default), from the first step, whose sample no budget holds back. Times are processor times
on one thread, so that other work on the machine does not count as the cost of a sample.

    python -m bench.doctor [--quick]
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import tempfile
import time
from types import SimpleNamespace
from typing import Any

EVERY = 100
PROMISE = 0.01


def main(quick: bool = False) -> dict[str, Any]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {
            "watch(every=100, budget=None): 100 steps with a sample": [_row(*case, quick) for case in _cases()],
            "watch(every=100): a whole training with the default budget": [_whole(*case, quick) for case in _cases()],
        }
    finally:
        torch.set_num_threads(threads)


def _cases() -> list[tuple[str, Any, Any, Any]]:
    import torch
    from torch import nn

    import rmsprop.torch

    def perceptron() -> tuple[Any, Any, Any]:
        model = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
        return model, torch.randn(128, 784), torch.randint(10, (128,))

    def convolutions() -> tuple[Any, Any, Any]:
        layers: list[Any] = [nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)]
        for _ in range(2):
            layers += [nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()]
        model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(512, 10))
        return model, torch.randn(16, 1, 28, 28), torch.randint(10, (16,))

    return [
        ("perceptron 784-256-256-10, batch 128", perceptron, torch.optim.RMSprop, "torch.optim"),
        ("perceptron 784-256-256-10, batch 128", perceptron, rmsprop.torch.RMSprop, "rmsprop.torch"),
        ("3 convolutions of 32, batch 16 of 28x28", convolutions, rmsprop.torch.RMSprop, "rmsprop.torch"),
    ]


def _make_training(build: Any, make: Any) -> tuple[Any, Any]:
    """Return (optimizer, what does a step)."""
    import torch

    torch.manual_seed(0)
    model, x, y = build()
    optimizer = make(model.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    return optimizer, step


def _whole(title: str, build: Any, make: Any, name: str, quick: bool) -> dict[str, Any]:
    """Measure two trainings in turn, step by step; the watch's clock runs only while its own training does."""
    import rmsprop.doctor.base
    from rmsprop.doctor import read, watch

    seconds = 2.0 if quick else 60.0
    (_, plain), (optimizer, watched) = _make_training(build, make), _make_training(build, make)
    for step in (plain, watched):  # what a first step loads and allocates is no cost of watching
        step()
    paused = 0.0
    clock = rmsprop.doctor.base.time
    rmsprop.doctor.base.time = SimpleNamespace(perf_counter=lambda: time.perf_counter() - paused)  # type: ignore
    collecting = gc.isenabled()
    gc.disable()
    try:
        with tempfile.TemporaryDirectory() as folder, watch(optimizer, every=EVERY, to=folder) as watching:
            alone = beside = 0.0
            end = time.perf_counter() + seconds
            steps = 0
            while time.perf_counter() < end:
                begin, wall = time.process_time(), time.perf_counter()
                plain()
                alone += time.process_time() - begin
                paused += time.perf_counter() - wall
                begin = time.process_time()
                watched()
                beside += time.process_time() - begin
                steps += 1
            samples = len({sample.step for sample in read(folder)})
            spent = watching.spent
    finally:
        rmsprop.doctor.base.time = clock
        if collecting:
            gc.enable()
    return {
        "training": title,
        "optimizer": name,
        "steps": steps,
        "samples": samples,
        "samples, ms": 1e3 * spent,
        "without, s": alone,
        "with / without": beside / alone,
        f"at most {1 + PROMISE:g}": beside <= (1 + PROMISE) * alone,
    }


def _row(title: str, build: Any, make: Any, name: str, quick: bool) -> dict[str, Any]:
    from rmsprop.doctor import watch

    seconds, least = (2.0, 3) if quick else (20.0, 7)
    (_, plain), (optimizer, watched) = _make_training(build, make), _make_training(build, make)
    with (
        tempfile.TemporaryDirectory() as folder,
        watch(optimizer, every=EVERY, to=folder, budget=None),
    ):
        for _ in range(5):
            plain()
        for _ in range(EVERY - 1):  # to just before a sample
            watched()
        without: list[float] = []
        beside: list[float] = []
        collecting = gc.isenabled()
        gc.disable()
        try:
            end = time.perf_counter() + seconds
            while len(without) < least or time.perf_counter() < end:
                # Turn by turn within the round too, so that what else the machine does hits both.
                times = [0.0, 0.0]
                for _ in range(EVERY):
                    for i, step in enumerate((plain, watched)):
                        begin = time.process_time()
                        step()
                        times[i] += time.process_time() - begin
                without.append(times[0])
                beside.append(times[1])
        finally:
            if collecting:
                gc.enable()
    alone, with_it = statistics.median(without), statistics.median(beside)
    return {
        "training": title,
        "optimizer": name,
        "100 steps, ms": 1e3 * alone,
        "100 steps and a sample, ms": 1e3 * with_it,
        "with / without": with_it / alone,
        f"at most {1 + PROMISE:g}": with_it <= (1 + PROMISE) * alone,
    }


if __name__ == "__main__":
    print(json.dumps(main("--quick" in sys.argv[1:]), indent=2))
