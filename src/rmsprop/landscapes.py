"""Named functions to watch an optimizer on: twelve of two variables, five of one.

Each is an expression (`rmsprop.expression`), so its gradient is exact and its text can be shown, edited and shared.
`minima` are exact or correct to the last digit of float64; with `lr` and `steps`, plain RMSprop (`Rule()`) shows what
`teaches` says.

Source: the usual test functions under their usual names: E. Beale, IBM report (1958); H. Rosenbrock, Computer Journal 3
(1960); D. Himmelblau, Applied Nonlinear Programming (1972); L. Rastrigin, Systems of Extremal Control (1974);
D. Ackley, A Connectionist Machine for Genetic Hillclimbing (1987). The ravine is that of the RMSProp chapter of Dive
into Deep Learning (d2l.ai). The rest are the library's own.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmsprop.errors import InputError
from rmsprop.expression import Expression, parse

__all__ = ["Landscape", "get", "names"]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Landscape:
    """A function, its known minima, and a run that shows how RMSprop behaves on it.

    Attributes:
        name: Its name for `get`.
        title: The heading of a picture.
        text: The function, as `rmsprop.expression.parse` reads it.
        domain: For each variable the lowest and highest value to draw.
        start: A point in the domain where that run starts.
        lr: The learning rate of that run, in units of x.
        steps: The number of its steps.
        teaches: What the run shows, in one sentence.
        minima: Shape (k, n), float64, read-only: known minima in the domain, the lowest first; k may be 0.
        minimum: The value at the first of them; minus infinity where there is none.
        log_scale: Whether a picture needs a logarithmic scale, because the values span many orders of magnitude.
        function: The parsed text: points of shape (..., n) to values of shape (...).

    Example:
        >>> from rmsprop import landscapes
        >>> ravine = landscapes.get("ravine")
        >>> ravine.text, ravine.start
        ('0.1*x^2 + 2*y^2', (-5.0, -2.0))
        >>> ravine([[-5.0, -2.0], [0.0, 0.0]])
        array([10.5,  0. ])
        >>> ravine.gradient([-5.0, -2.0])
        array([-1., -8.])
    """

    name: str
    title: str
    text: str
    domain: tuple[tuple[float, float], ...]
    start: tuple[float, ...]
    lr: float
    steps: int
    teaches: str
    minima: NDArray[np.float64]
    minimum: float = 0.0
    log_scale: bool = False
    function: Expression = field(init=False)

    def __post_init__(self) -> None:
        minima = np.array(self.minima, np.float64).reshape(-1, len(self.domain))
        minima.setflags(write=False)
        object.__setattr__(self, "minima", minima)
        object.__setattr__(self, "function", parse(self.text, variables=("x", "y")[: len(self.domain)]))

    @property
    def variables(self) -> tuple[str, ...]:
        """("x",) or ("x", "y")."""
        return self.function.variables

    def __call__(self, points: ArrayLike) -> Any:
        """Return the values at points of shape (..., n): a float for one point, else float64 of shape (...)."""
        return self.function(points)

    def gradient(self, points: ArrayLike) -> NDArray[np.float64]:
        """Return the gradient at points of shape (..., n): float64 of the same shape.

        The derivative at a kink is taken as 0, for example at the tip of Ackley's funnel and at the bottom of |x|.
        """
        return self.function.grad(points)

    def value_and_grad(self, points: ArrayLike) -> tuple[Any, NDArray[np.float64]]:
        """Return both at once, at little more than the cost of the gradient alone."""
        return self.function.value_and_grad(points)

    def __repr__(self) -> str:
        return f"<Landscape {self.name}: {self.text}>"


def names(*, variables: int | None = None) -> tuple[str, ...]:
    """Return the names, all or those of functions of that many variables.

    Example:
        >>> from rmsprop import landscapes
        >>> landscapes.names(variables=1)
        ('parabola', 'cubic', 'double-well', 'quartic', 'kink')
    """
    return tuple(name for name, item in _BY_NAME.items() if variables in (None, len(item.variables)))


def get(name: str) -> Landscape:
    """Return a landscape by its name; case, spaces and underscores do not matter.

    Raises:
        InputError: No such name; the message has the nearest one.

    Example:
        >>> from rmsprop import landscapes
        >>> landscapes.get("Monkey saddle").text
        'x^3 - 3*x*y^2'
        >>> landscapes.get("rosenbork")
        Traceback (most recent call last):
        rmsprop.errors.InputError: landscape 'rosenbork', did you mean 'rosenbrock'?
    """
    key = name.strip().lower().replace(" ", "-").replace("_", "-") if isinstance(name, str) else None
    if key in _BY_NAME:
        return _BY_NAME[key]
    near = difflib.get_close_matches(key or "", _BY_NAME, n=1)
    advice = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(_BY_NAME)}"
    raise InputError(f"landscape {name!r}, {advice}")


def _square(half: float) -> tuple[tuple[float, float], ...]:
    return ((-half, half), (-half, half))


_ORIGIN, _NOWHERE = np.zeros((1, 2)), np.zeros((0, 2))

_ALL = (
    Landscape(
        name="bowl", title="Bowl", text="x^2 + y^2",
        domain=_square(5.0), start=(-4.0, 2.5), lr=0.1, steps=100,
        teaches="Both coordinates move at the same speed, lr, whatever their slope: the path is diagonal at first.",
        minima=_ORIGIN,
    ),
    Landscape(
        name="ravine", title="Ravine (Dive into Deep Learning)", text="0.1*x^2 + 2*y^2",
        domain=((-6.0, 6.0), (-3.0, 3.0)), start=(-5.0, -2.0), lr=0.4, steps=20,
        teaches="The curvature in y is 20x larger: RMSprop reaches both minima together; gradient descent lags in x.",
        minima=_ORIGIN,
    ),
    Landscape(
        name="rosenbrock", title="Rosenbrock's valley", text="(1 - x)^2 + 100*(y - x^2)^2",
        domain=((-2.0, 2.0), (-1.0, 3.0)), start=(-1.2, 1.0), lr=0.003, steps=3000, log_scale=True,
        teaches="The valley is found fast and followed slowly, because its steep walls keep the mean square large.",
        minima=np.ones((1, 2)),
    ),
    Landscape(
        name="himmelblau", title="Himmelblau's four minima", text="(x^2 + y - 11)^2 + (x + y^2 - 7)^2",
        domain=_square(5.0), start=(0.0, 0.0), lr=0.05, steps=200, log_scale=True,
        teaches="Four equal minima: the start determines which of them a run finds.",
        minima=np.array([
            [3.0, 2.0], [-2.805118086952744853, 3.131312518250572966],
            [-3.779310253377746892, -3.283185991286169412], [3.584428340330491745, -1.848126526964403554],
        ]),
    ),
    Landscape(
        name="beale", title="Beale's plain", text="(1.5 - x + x*y)^2 + (2.25 - x + x*y^2)^2 + (2.625 - x + x*y^3)^2",
        domain=_square(4.5), start=(1.0, 1.5), lr=0.02, steps=800, log_scale=True,
        teaches="Gradients range from 0.001 to 10,000, and a single learning rate works for all of them.",
        minima=np.array([[3.0, 0.5]]),
    ),
    Landscape(
        name="rastrigin", title="Rastrigin's egg box", text="20 + x^2 - 10*cos(2*pi*x) + y^2 - 10*cos(2*pi*y)",
        domain=_square(5.12), start=(-2.3, 1.7), lr=0.02, steps=200,
        teaches="A minimum in every cell: a run with small steps ends in the nearest one, not in the lowest one.",
        minima=_ORIGIN,
    ),
    Landscape(
        name="ackley", title="Ackley's funnel",
        text="20*(1 - exp(-0.2*sqrt(0.5*(x^2 + y^2)))) + e - exp(0.5*(cos(2*pi*x) + cos(2*pi*y)))",
        domain=_square(5.0), start=(-2.5, 1.8), lr=0.3, steps=300,
        teaches="Large steps cross the ripples where small steps stop; at the sharp tip they keep oscillating.",
        minima=_ORIGIN,
    ),
    Landscape(
        name="saddle", title="Saddle", text="x^2 - y^2",
        domain=_square(2.0), start=(-1.5, 0.001), lr=0.02, steps=90,
        teaches="RMSprop divides each gradient by its size, so it leaves the saddle long before gradient descent does.",
        minima=_NOWHERE, minimum=-math.inf,
    ),
    Landscape(
        name="monkey-saddle", title="Monkey saddle", text="x^3 - 3*x*y^2",
        domain=_square(2.0), start=(1.0, 0.01), lr=0.02, steps=70,
        teaches="Three valleys meet at a point without curvature; RMSprop turns away before it reaches that point.",
        minima=_NOWHERE, minimum=-math.inf,
    ),
    Landscape(
        name="plateau", title="Plateau with a hole", text="1 - exp(-0.25*(x^2 + y^2))",
        domain=_square(6.0), start=(-4.0, 3.0), lr=0.05, steps=200,
        teaches="RMSprop divides the tiny gradient by its own size and moves on; gradient descent hardly moves.",
        minima=_ORIGIN,
    ),
    Landscape(
        name="cliff", title="Cliff", text="0.1*(x^2 + y^2) + 50*(relu(x - 1) - relu(x - 1.2))",
        domain=_square(4.0), start=(3.0, 2.0), lr=0.1, steps=250,
        teaches="A step is at most lr/sqrt(1 - rho); after the cliff, the large mean square slows RMSprop down.",
        minima=_ORIGIN,
    ),
    Landscape(
        name="two-wells", title="Two wells", text="0.25*x^4 + x^3/3 - x^2 + 0.5*y^2",
        domain=((-3.2, 2.4), (-2.5, 2.5)), start=(2.0, 1.5), lr=0.05, steps=400,
        teaches="Plain RMSprop stops in the shallow well near the start; with momentum 0.9 it reaches the deep one.",
        minima=np.array([[-2.0, 0.0], [1.0, 0.0]]), minimum=-8.0 / 3.0,
    ),
    Landscape(
        name="parabola", title="Parabola", text="x^2",
        domain=((-1.2, 1.2),), start=(-1.0,), lr=0.05, steps=100,
        teaches="With a constant lr the run oscillates around the minimum by about lr; decay lr to come closer.",
        minima=np.array([[0.0]]),
    ),
    Landscape(
        name="cubic", title="Cubic", text="x - x^3",
        domain=((-1.15, 1.15),), start=(-1.0,), lr=0.01, steps=200,
        teaches="The minimum is only local: a run from -1 finds it, a run from beyond 1/sqrt(3) diverges.",
        minima=np.array([[-1.0 / math.sqrt(3.0)]]), minimum=-2.0 / (3.0 * math.sqrt(3.0)),
    ),
    Landscape(
        name="double-well", title="Double well", text="(x^2 - 1)^2",
        domain=((-1.6, 1.6),), start=(0.01,), lr=0.02, steps=150,
        teaches="At the top the gradient is zero and nothing moves; right beside it RMSprop moves at full speed.",
        minima=np.array([[-1.0], [1.0]]),
    ),
    Landscape(
        name="quartic", title="Quartic", text="x^4",
        domain=((-1.2, 1.2),), start=(1.0,), lr=0.02, steps=200,
        teaches="The gradient shrinks with the cube of the distance; gradient descent stalls, RMSprop does not.",
        minima=np.array([[0.0]]),
    ),
    Landscape(
        name="kink", title="Absolute value", text="abs(x)",
        domain=((-1.2, 1.2),), start=(-1.0,), lr=0.05, steps=100,
        teaches="The gradient never shrinks: the run oscillates across the kink by about lr until lr decays.",
        minima=np.array([[0.0]]),
    ),
)  # fmt: skip
_BY_NAME: dict[str, Landscape] = {item.name: item for item in _ALL}
