"""From traces to the arrays of a picture: nothing here draws.

    scene = Scene.of(traces, function=f)      what stays: the ground, the picture's edges, the scales
    scene.frame(t)                            what moves: balls, trails, squares, numbers at time t

The squares show what an optimizer divides by. For each coordinate the filled square's AREA is the accumulator
(AdaGrad's sum, RMSprop's mean of squared gradients) and the outlined one's area is the newest gradient squared:

    side = scale sqrt(accumulator)       outline = scale |grad|       scale: the largest side of the whole run is 1

It lies on the side of the ball to which minus the gradient points. One scale serves all runs and all times, so squares
can be compared across both. Source of the idea: the desktop program gradient_descent_viz by Lili Jiang.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmsprop.errors import InputError, InputTypeError
from rmsprop.expression import Expression, parse
from rmsprop.landscapes import Landscape
from rmsprop.optimizers import TABLE
from rmsprop.trace import Trace
from rmsprop.view.ground import Ground, box_around, ground
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
        points: Where the balls are, shape (k, n); for a run that has left, where it left.
        inside: Whether the ball is in the picture, shape (k,).
        trails: For each run the way so far, shape (m, n).
        loss: The objective, shape (k,).
        grad: The gradient of the step about to be made, shape (k, n).
        accumulator: What that step divides by the root of, shape (k, n), in units of grad**2; NaN where none is kept.
        effective_lr: What it multiplies the gradient by, shape (k, n).
        sides: Sides of the filled squares, shape (k, n), the largest of the whole run being 1; NaN where none is kept.
        outlines: Sides of the outlined squares, shape (k, n), on the same scale.
        directions: To which side of the ball they lie, shape (k, n): -1, 0 or 1, against the gradient.
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
    """All runs of one picture and what they run on; build it with `Scene.of`.

    Attributes:
        tracks: The runs.
        ground: The function's values in the picture, or None: no function, or more than two coordinates.
        title: The function, as a reader writes it.
        steps: The steps of the longest run.
        scale: Side of a square per root of accumulator, in 1 / units of grad.
        minima: Known minima in the picture, shape (m, n), or None.
    """

    tracks: tuple[Track, ...]
    ground: Ground | None
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
        """Gather what the pictures of these runs have in common.

        Args:
            traces: One run or several of as many coordinates. A run of many starts counts as that many runs.
            function: What was minimized: its text, an expression, a landscape, or a callable that takes points of shape
                (..., n) or a single point. Without it, or above two coordinates, the curves alone are drawn.
            labels: A name for each run. Default: the optimizer's, with the rule's switches where two would be the same.
            domain: (low, high) of each coordinate. Default: the landscape's, else what the runs need.
            title: A heading. Default: the function.

        Raises:
            InputError: No run, too many, runs of different numbers of coordinates, or a domain without an inside.
            InputTypeError: Something that is no trace.

        Example:
            >>> import rmsprop
            >>> run = rmsprop.minimize(lambda x: x @ x, [1.0, -2.0], jac=lambda x: 2 * x, steps=50, trace=True)
            >>> scene = Scene.of(run.trace, function="x^2 + y^2")
            >>> scene.title, scene.steps, scene.frame(0).points
            ('x² + y²', 50, array([[ 1., -2.]]))
        """
        runs = _runs(traces)
        names = _labels(runs) if labels is None else tuple(labels)
        if len(names) != len(runs):
            raise InputError(f"labels: {len(names)} names for {len(runs)} runs, expected one for each")
        called = parse(function) if isinstance(function, str) else function
        n = runs[0].x.shape[-1]
        _check_arity(called, n)
        box = None
        if n <= 2:
            known = called.domain if isinstance(called, Landscape) and domain is None else domain
            box = box_around([run.x for run in runs], [run.f for run in runs], domain=known)
        tracks = tuple(Track(label=name, trace=run, box=box) for name, run in zip(names, runs))
        return cls(
            tracks=tracks,
            ground=None if called is None or box is None else ground(called, box),
            title=pretty(_text(called)) if title is None else title,
            steps=max(run.steps for run in runs),
            scale=_scale(runs),
            minima=_minima(called, box),
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
        """Return so many times, evenly spaced from 0 to the last step; whole steps where there are enough."""
        times = np.linspace(0.0, self.steps, frames) if frames > 1 else np.array([float(self.steps)])
        return times.round() if frames <= self.steps + 1 else times

    def frame(self, time: float) -> Frame:
        """Return what the picture shows at `time`, a number of steps in [0, steps]."""
        rows: dict[str, list[Any]] = {name: [] for name in ("point", "inside", "grad", "mean_sq", "effective_lr")}
        for track in self.tracks:
            gone = track.left is not None and time >= track.left
            point = track.exit if gone and track.exit is not None else track.point(time)
            rows["point"].append(point)
            rows["inside"].append(not gone and (track.box is None or bool(track.box.holds(point))))
            for name in ("grad", "mean_sq", "effective_lr"):
                rows[name].append(track.of_step(name, time))
        grad, accumulator = np.array(rows["grad"], float), np.array(rows["mean_sq"], float)
        return Frame(
            time=float(time),
            points=np.array(rows["point"], float),
            inside=np.array(rows["inside"], bool),
            trails=tuple(track.trail(time) for track in self.tracks),
            loss=np.array([track.loss(time) for track in self.tracks]),
            grad=grad,
            accumulator=accumulator,
            effective_lr=np.array(rows["effective_lr"], float),
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


def pretty(text: str) -> str:
    """Write a typed function as a reader writes it.

    Example:
        >>> pretty("0.1*x**2 + 2*y^12")
        '0.1·x² + 2·y¹²'
    """
    import re

    text = re.sub(r"(?:\*\*|\^)(\d+)(?![\d.])", lambda power: power[1].translate(_RAISED), text.strip())
    return text.replace("**", "^").replace("*", "·").replace(" - ", " − ")


def name_of(optimizer: str) -> str:
    """Write an optimizer's name as a reader writes it.

    Example:
        >>> name_of("gradient_descent"), name_of("adagrad")
        ('Gradient descent', 'AdaGrad')
    """
    kind = optimizer.lower()
    return TABLE[kind].label if kind in TABLE else kind.replace("_", " ").capitalize()


_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def _text(function: Any) -> str:
    return str(getattr(function, "text", "")) if function is not None else ""


def _runs(traces: Trace | Iterable[Trace]) -> tuple[Trace, ...]:
    """Take apart runs of many starts, and check that the rest belongs in one picture."""
    given = [traces] if isinstance(traces, Trace) else list(traces)
    for i, run in enumerate(given):
        if not isinstance(run, Trace):
            raise InputTypeError(
                f"traces[{i}]: {type(run).__name__}, expected a Trace: minimize(..., trace=True).trace"
            )
    runs = tuple(
        one for run in given for one in ([run.start(i) for i in range(run.x.shape[1])] if run.x.ndim == 3 else [run])
    )
    if not 1 <= len(runs) <= MOST_RUNS:
        raise InputError(f"traces: {len(runs)} runs, expected 1 to {MOST_RUNS}")
    counts = [run.x.shape[-1] for run in runs]
    if len(set(counts)) > 1:
        raise InputError(f"traces: runs of {counts} coordinates, expected as many in each")
    return runs


def _labels(runs: Sequence[Trace]) -> tuple[str, ...]:
    kinds = [run.optimizer.lower() for run in runs]
    names = [name_of(kind) for kind in kinds]
    for i, run in enumerate(runs):
        same = [other for other, kind in zip(runs, kinds) if kind == kinds[i]]
        if len(same) < 2:
            continue
        if run.rule is not None and len({other.rule for other in same}) == len(same):
            first = same[0].rule
            changed = {} if first is None else first.difference(run.rule)
            names[i] += "".join(
                f", {k} {new:g}" if isinstance(new, float) else f", {k} {new}" for k, (_, new) in changed.items()
            )
        else:
            names[i] += f" {sum(other is not run for other in same[: _index(same, run)]) + 1}"
    return tuple(names)


def _index(runs: Sequence[Trace], run: Trace) -> int:
    return next(i for i, other in enumerate(runs) if other is run)


def _scale(runs: Sequence[Trace]) -> float:
    """One over the largest root of an accumulator, or |gradient|, that these runs ever had in finite numbers."""
    largest = 0.0
    for run in runs:
        with np.errstate(invalid="ignore"):
            sides = np.concatenate([np.sqrt(run.mean_sq).ravel(), np.abs(run.grad[~np.isnan(run.mean_sq)]).ravel()])
        sides = sides[np.isfinite(sides)]
        largest = max(largest, float(sides.max(initial=0.0)))
    return 1.0 / largest if largest > 0 and math.isfinite(1.0 / largest) else 0.0


def _minima(function: Any, box: Box | None) -> Array | None:
    if not isinstance(function, Landscape) or box is None:
        return None
    inside = function.minima[box.holds(function.minima)] if len(function.minima) else function.minima
    return inside if len(inside) else None


def _check_arity(function: Any, n: int) -> None:
    variables = getattr(function, "variables", None)
    if variables is not None and len(variables) != n:
        raise InputError(f"function: of {' and '.join(variables)}, expected {n} variables like the runs")
    if function is not None and not callable(function):
        raise InputTypeError(
            f"function: {type(function).__name__}, expected a text, an expression, a landscape or a callable"
        )
