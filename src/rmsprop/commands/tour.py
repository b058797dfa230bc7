"""The five parts of `rmsprop demo`: each computes its numbers, and returns a sentence and its figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rmsprop import RMSprop, Rule, minimize, view
from rmsprop.race import get
from rmsprop.race.conduct import RaceOptions, run_task
from rmsprop.race.picture import PANELS, draw_svg
from rmsprop.race.report import render_template
from rmsprop.race.verdict import describe_verdict, make_table

if TYPE_CHECKING:
    from rich.console import Console

    from rmsprop.trace import Trace

__all__ = ["PARTS", "Part", "render_tour"]

TASK = "tumors"
RECORDED = {"torch": 0.0, "rmsprop": 0.11326953023672104}
"""What `move_bfloat16` returns with torch 2.13.0+cpu."""


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of the tour.

    Attributes:
        title: What it shows.
        sentence: The result, with its numbers.
        figures: HTML and caption of each figure.
        numbers: The numbers that the sentence is made of.
    """

    title: str
    sentence: str
    figures: Sequence[tuple[str, str]]
    numbers: Mapping[str, Any]


def show_step_by_hand(folder: Path, console: Console) -> Part:
    """Compute the tutorial's one gradient by hand and by the library, and minimize its two functions."""
    rule = Rule(rho=0.9, eps=1e-8)
    theta, grad = np.array([0.2, 0.4, 0.6]), np.array([-0.5, 0.3, 0.24])
    by_hand = theta - 0.01 * grad / np.sqrt(0.1 * grad**2 + 1e-8)
    RMSprop(theta, lr=0.01, dialect=rule).step(grad)
    curve = minimize("x - x^3", -1.0, lr=0.01, dialect=rule, steps=200, trace=True)
    bowl = minimize("2*x^2 + 2*x*y + 2*y^2 - 6*x", [1.0, 0.0], lr=0.01, dialect=rule, steps=1000, trace=True)
    error = float(np.abs(theta - by_hand).max())
    return Part(
        "One step by hand, and two functions",
        f"Theta [0.2 0.4 0.6] with the gradient [-0.5 0.3 0.24] becomes {np.round(theta, 4)}, by hand and by the "
        f"library (difference {error:.1g}). From -1, x - x^3 falls to its valley at x = {curve.x:.4f}; the tilted bowl "
        f"ends at ({bowl.x[0]:.3f}, {bowl.x[1]:.3f}), half a learning rate beside its minimum (2, -1).",
        [
            animate([curve.trace], "RMSprop on x - x^3, lr 0.01, rho 0.9"),
            animate([bowl.trace], "RMSprop on the tilted bowl, lr 0.01, rho 0.9"),
        ],
        {"theta": theta, "by_hand": by_hand, "curve": curve.x, "bowl": bowl.x},
    )


def show_lr_and_rho(folder: Path, console: Console) -> Part:
    """Animate the squares of AdaGrad and RMSprop, and RMSprop with a long and a short memory."""
    valley: dict[str, Any] = {"fun": "0.1*x^2 + 2*y^2", "x0": [-5.0, -2.0], "lr": 0.2, "steps": 60, "trace": True}
    adagrad, ours, long = (
        minimize(**valley, **options).trace
        for options in ({"optimizer": "adagrad"}, {"dialect": Rule(rho=0.9)}, {"dialect": Rule(rho=0.99)})
    )
    sums, means = (np.sqrt(trace.mean_sq[-1, 1]) for trace in (adagrad, ours))
    return Part(
        "What lr and rho do",
        f"After 60 steps with lr 0.2, AdaGrad divides the gradient of y by {sums:.3g}, the root of a sum that only "
        f"grows; RMSprop with rho 0.9 divides it by {means:.3g}, the root of a mean that forgets. AdaGrad is at "
        f"x = {adagrad.x[-1, 0]:.2f}, RMSprop at {ours.x[-1, 0]:.1g}.",
        [
            animate([adagrad, ours], "The square's area is what each divides by; lr 0.2, rho 0.9"),
            animate([ours, long], "A short and a long memory; lr 0.2", labels=["rho 0.9", "rho 0.99"]),
        ],
        {"adagrad": sums, "rmsprop": means, "adagrad_x": adagrad.x[-1, 0], "rmsprop_x": ours.x[-1, 0]},
    )


def train_optimizers(folder: Path, console: Console) -> Part:
    """Benchmark five optimizers on a real task; all results are in the folder `race`."""
    task = get(TASK)
    outcome = run_task(TASK, RaceOptions(), folder / "race", console)
    if outcome.results is None or outcome.status != "complete":
        raise KeyboardInterrupt
    table = make_table(task, outcome.results)
    return Part(
        f"Five optimizers, equally tuned: {task.title.lower()}",
        f"{describe_verdict(table, task.metric)} ({task.metric.name}, {task.metric.better} is better; paired t tests.)",
        [(draw_svg(name, task, outcome.results), PANELS[name][1]) for name in ("seeds", "rates")],
        {row.optimizer: row.mean for row in table},
    )


def compare_dialects(folder: Path, console: Console) -> Part:
    """Run two dialects from one start."""
    lr = 0.01
    traces = [
        minimize("x^2/2 + y^2/2", [1.0, 1.0], lr=lr, dialect=name, rho=0.99, steps=60, trace=True).trace
        for name in ("torch", "tensorflow1")
    ]
    first = [abs(float(trace.update[0, 0])) / lr for trace in traces]
    return Part(
        "Two dialects from one start",
        f"With lr {lr} and rho 0.99, PyTorch's RMSprop begins with a step of {first[0]:.3g} lr, and TensorFlow 1's "
        f"with {first[1]:.3g} lr: the mean square starts at 0 in one and at 1 in the other.",
        [animate(traces, "The same lr and rho, two dialects", labels=["torch", "tensorflow1"])],
        {"torch": first[0], "tensorflow1": first[1]},
    )


def show_bfloat16(folder: Path, console: Console) -> Part:
    """Move bfloat16 weights near 1 with torch's RMSprop and with stochastic rounding."""
    try:
        moved, source = move_bfloat16(), "measured now"
    except ImportError:
        moved, source = RECORDED, "recorded with torch 2.13.0; torch is not installed here"
    return Part(
        "bfloat16 weights near 1",
        f"In 1000 steps of lr 0.0001, torch.optim.RMSprop moves them by {moved['torch']:.3g}, because each step is "
        f'rounded away; rmsprop.torch.RMSprop with param_rounding="stochastic" by {moved["rmsprop"]:.3f} ({source}).',
        [],
        moved,
    )


def move_bfloat16() -> dict[str, float]:
    """Return how far 1000 weights of 1 move on average in 1000 steps with gradient 1."""
    import torch

    from rmsprop.torch import RMSprop as Ours

    def move(optimizer_class: Any, **options: Any) -> float:
        weight = torch.nn.Parameter(torch.ones(1000, dtype=torch.bfloat16))
        optimizer = optimizer_class([weight], lr=1e-4, **options)
        weight.grad = torch.ones_like(weight)
        for _ in range(1000):
            optimizer.step()
        return float((1 - weight.data.float()).mean())

    return {"torch": move(torch.optim.RMSprop), "rmsprop": move(Ours, param_rounding="stochastic", seed=0)}


def animate(traces: Sequence[Trace], caption: str, labels: Sequence[str] | None = None) -> tuple[str, str]:
    """Return an animation inside an `<img>`, and its caption."""
    animation = view.animate(traces, labels=labels, title=caption, seconds=4, fps=20)
    return str(animation._repr_html_()), caption  # type: ignore[union-attr]


PARTS: tuple[Callable[[Path, Console], Part], ...] = (
    show_step_by_hand, show_lr_and_rho, train_optimizers, compare_dialects, show_bfloat16,
)  # fmt: skip


def render_tour(parts: Sequence[Part]) -> str:
    """Return the page of the tour."""
    return render_template("demo.html", parts=parts, task=get(TASK))
