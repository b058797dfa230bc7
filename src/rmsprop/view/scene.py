"""From traces to the arrays of a picture: nothing here draws.

    scene = Scene.of(traces, function=f)      what stays: the background, the picture's edges, the scales
    scene.frame(t)                            what moves: balls, trails, squares, numbers at time t

The squares show what an optimizer divides by. For each coordinate the filled square's AREA is the accumulator
(AdaGrad's sum, RMSprop's mean of squared gradients) and the outlined one's area is the newest gradient squared:

    side = scale sqrt(accumulator)       outline = scale |grad|       scale: the largest side of all steps is 1

It lies on the side of the ball to which minus the gradient points. All runs and all times share one scale, so squares
can be compared across both. Source of the idea: the desktop program gradient_descent_viz by Lili Jiang.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmsprop.errors import InputError, InputTypeError
from rmsprop.expression import Expression, parse
from rmsprop.landscapes import Landscape
from rmsprop.optimizers import TABLE
from rmsprop.trace import Trace
from rmsprop.view.background import Background, choose_box, compute_background
from rmsprop.view.track import Box, Track

__all__ = ["Frame", "Scene", "frame"]

Array = NDArray[Any]
Function = str | Expression | Landscape | Callable[[Array], Any]
Domain = Sequence[float] | Sequence[Sequence[float]]

MOST_RUNS = 24


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frame:
    """The picture at one time; k runs, n coordinates, float64.

    Attributes:
        time: In steps; may lie between two.
        points: Where the balls are, shape (k, n); for a run that has left the picture, where it left.
        inside: Whether the ball is in the picture, shape (k,).
        trails: For each run the path so far, shape (m, n).
        loss: The objective, shape (k,).
        grad: The gradient of the next step, shape (k, n).
        accumulator: The statistic whose root that step divides by, shape (k, n), in units of grad**2; NaN without one.
        effective_lr: The factor of the gradient in that step, shape (k, n).
        sides: Sides of the filled squares, shape (k, n); the largest of all steps is 1; NaN without an accumulator.
        outlines: Sides of the outlined squares, shape (k, n), on the same scale.
        directions: The side of the ball on which they lie, shape (k, n): -1, 0 or 1, against the gradient.
    """

    time: float
    points: Array
    inside: Array
    trails: tuple[Array, ...]
    loss: Array
    grad: Array
    accumulator: Array
    effective_lr: Array
    sides: Array
    outlines: Array
    directions: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
    """All runs of one picture and the function they minimize; build it with `Scene.of`.

    Attributes:
        tracks: The runs.
        background: The function's values in the picture, or None: no function, or more than two coordinates.
        title: The function as in print.
        steps: The steps of the longest run.
        scale: Side of a square per root of accumulator, in 1 / units of grad.
        minima: Known minima in the picture, shape (m, n), or None.
    """

    tracks: tuple[Track, ...]
    background: Background | None
    title: str
    steps: int
    scale: float
    minima: Array | None = None

    @classmethod
    def of(
        cls,
        traces: Trace | Iterable[Trace],
        *,
        function: Function | None = None,
        labels: Sequence[str] | None = None,
        domain: Domain | None = None,
        title: str | None = None,
    ) -> Scene:
        """Compute what stays the same in all pictures of these runs.

        Args:
            traces: One run or several of as many coordinates. A run of many starts counts as that many runs.
            function: What was minimized: its text, an expression, a landscape, or a callable that takes points of shape
                (..., n) or a single point. Default: the typed function that all runs minimized. Without any, or above
                two coordinates, the curves alone are drawn.
            labels: A name for each run. Default: the optimizer's, with the rule's switches where two would be the same.
            domain: (low, high) of each coordinate. Default: the landscape's, else a box around the runs.
            title: The heading. Default: the function.

        Raises:
            InputError: No run, too many, runs of different numbers of coordinates, or a domain without an interior.
            InputTypeError: Something that is not a trace.

        Example:
            >>> import rmsprop
            >>> run = rmsprop.minimize(lambda x: x @ x, [1.0, -2.0], jac=lambda x: 2 * x, steps=50, trace=True)
            >>> scene = Scene.of(run.trace, function="x^2 + y^2")
            >>> scene.title, scene.steps, scene.frame(0).points
            ('x² + y²', 50, array([[ 1., -2.]]))
        """
        runs = _split_runs(traces)
        names = _label_runs(runs) if labels is None else tuple(labels)
        if len(names) != len(runs):
            raise InputError(f"labels: {len(names)} names for {len(runs)} runs, expected one for each")
        n = runs[0].x.shape[-1]
        f: Any = parse(function) if isinstance(function, str) else function
        texts = {run.function for run in runs}
        if f is None and len(texts) == 1 and (text := texts.pop()) is not None:
            f = parse(text, variables=("x", "y")[:n])
        _check_function(f, n)
        box = minima = None
        if n <= 2:
            domain = f.domain if isinstance(f, Landscape) and domain is None else domain
            box = choose_box([run.x for run in runs], [run.f for run in runs], domain=domain)
            minima = f.minima[box.contains(f.minima)] if isinstance(f, Landscape) else None
        return cls(
            tracks=tuple(Track(label=name, trace=run, box=box) for name, run in zip(names, runs)),
            background=None if f is None or box is None else compute_background(f, box),
            title=format_formula(str(getattr(f, "text", ""))) if title is None else title,
            steps=max(run.steps for run in runs),
            scale=_compute_scale(runs),
            minima=minima if minima is not None and len(minima) else None,
        )

    @property
    def box(self) -> Box | None:
        """What the map shows."""
        return self.tracks[0].box

    @property
    def coordinates(self) -> int:
        """How many parameters a point has."""
        return int(self.tracks[0].trace.x.shape[-1])

    def times(self, frames: int) -> Array:
        """Return this many times, evenly spaced from 0 to the last step; integers where there are enough steps."""
        times = np.linspace(0.0, self.steps, frames) if frames > 1 else np.array([float(self.steps)])
        return times.round() if frames <= self.steps + 1 else times

    def frame(self, time: float) -> Frame:
        """Return what the picture shows at `time`, a number of steps in [0, steps]."""
        time = min(max(float(time), 0.0), float(self.steps))
        points = np.array([track.get_point(time) for track in self.tracks], float)
        inside = [
            not track.has_left(time) and (self.box is None or bool(self.box.contains(point)))
            for track, point in zip(self.tracks, points)
        ]
        grad, accumulator, effective_lr = (
            np.array([track.get_row(name, time) for track in self.tracks], float)
            for name in ("grad", "mean_sq", "effective_lr")
        )
        return Frame(
            time=time,
            points=points,
            inside=np.array(inside, bool),
            trails=tuple(track.get_trail(time) for track in self.tracks),
            loss=np.array([track.get_loss(time) for track in self.tracks]),
            grad=grad,
            accumulator=accumulator,
            effective_lr=effective_lr,
            sides=self.scale * np.sqrt(accumulator),
            outlines=self.scale * np.abs(grad),
            directions=-np.sign(grad),
        )


def frame(traces: Trace | Iterable[Trace], time: float, **options: Any) -> Frame:
    """Return the arrays of the picture of these runs at `time`; the options are those of `Scene.of`.

    For more than one frame build the `Scene` once.

    Example:
        >>> import rmsprop
        >>> run = rmsprop.minimize(lambda x: x @ x, [1.0, -2.0], jac=lambda x: 2 * x, steps=50, trace=True)
        >>> now = frame(run.trace, 10, function="x^2 + y^2")
        >>> now.trails[0].shape, bool(now.inside[0])
        ((11, 2), True)
    """
    return Scene.of(traces, **options).frame(time)


def format_formula(text: str) -> str:
    """Write a typed function as in print.

    Example:
        >>> format_formula("0.1*x**2 + 2*y^12")
        '0.1·x² + 2·y¹²'
    """
    superscripts = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
    text = re.sub(r"(?:\*\*|\^)(\d+)(?![\d.])", lambda power: power[1].translate(superscripts), text.strip())
    return text.replace("**", "^").replace("*", "·").replace(" - ", " − ")


def _split_runs(traces: Trace | Iterable[Trace]) -> tuple[Trace, ...]:
    """Return a trace per start, and check that all belong in one picture."""
    runs: list[Trace] = []
    for i, run in enumerate([traces] if isinstance(traces, Trace) else traces):
        if not isinstance(run, Trace):
            raise InputTypeError(
                f"traces[{i}]: {type(run).__name__}, expected a Trace: minimize(..., trace=True).trace"
            )
        runs += [run.start(k) for k in range(run.x.shape[1])] if run.x.ndim == 3 else [run]
    if not 1 <= len(runs) <= MOST_RUNS:
        raise InputError(f"traces: {len(runs)} runs, expected 1 to {MOST_RUNS}")
    counts = [run.x.shape[-1] for run in runs]
    if len(set(counts)) > 1:
        raise InputError(f"traces: runs of {counts} coordinates, expected the same number in each")
    return tuple(runs)


def _label_runs(runs: Sequence[Trace]) -> tuple[str, ...]:
    """Return the optimizers' labels; runs of the same optimizer get their rule's changed switches, or a number."""
    labels = []
    for run in runs:
        name = run.optimizer.lower()
        label = TABLE[name].label if name in TABLE else name.replace("_", " ").capitalize()
        same = [other for other in runs if other.optimizer.lower() == name]
        first = same[0].rule
        if first is not None and run.rule is not None and len({other.rule for other in same}) == len(same):
            for switch, (_, value) in first.difference(run.rule).items():
                label += f", {switch} {value:g}" if isinstance(value, float) else f", {switch} {value}"
        elif len(same) > 1:
            label += f" {next(i for i, other in enumerate(same) if other is run) + 1}"
        labels.append(label)
    return tuple(labels)


def _compute_scale(runs: Sequence[Trace]) -> float:
    """Return 1 over the largest finite root of an accumulator, or |gradient| beside an accumulator, of these runs."""
    largest = 0.0
    for run in runs:
        with np.errstate(invalid="ignore"):
            sides = np.concatenate([np.sqrt(run.mean_sq).ravel(), np.abs(run.grad[~np.isnan(run.mean_sq)]).ravel()])
        largest = max(largest, float(sides[np.isfinite(sides)].max(initial=0.0)))
    return 1.0 / largest if largest > 0 and math.isfinite(1.0 / largest) else 0.0


def _check_function(function: Any, n: int) -> None:
    if function is not None and not callable(function):
        raise InputTypeError(
            f"function: {type(function).__name__}, expected a text, an expression, a landscape or a callable"
        )
    variables = getattr(function, "variables", None)
    if variables is not None and len(variables) != n:
        raise InputError(f"function: of {' and '.join(variables)}, expected {n} variables like the runs")
