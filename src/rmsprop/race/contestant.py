"""Who may run in a race: a name, how it is drawn, and how each framework makes it.

Every optimizer runs with the settings its own users call the default; the learning rate alone is tuned. The colours
are told apart by readers with any of the common colour deficiencies, and line style and marker differ as well.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Sequence
from typing import Any

from rmsprop.errors import InputError
from rmsprop.race.task import Framework, nearest

__all__ = ["DEFAULT", "Contestant", "Step", "chosen", "get", "names"]

Step = Callable[[Any], Any]
"""Takes gradients, updates the parameters it was made for."""

DEFAULT = ("sgd", "momentum", "adagrad", "adam", "rmsprop")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contestant:
    """One optimizer.

    Attributes:
        name: What the command line calls it.
        label: What the report calls it.
        settings: Its numbers other than the learning rate, for a reader.
        numpy: "module:class" that updates NumPy arrays.
        light: Colour on white.
        dark: Colour on near-black.
        dash: Line style, in matplotlib's words.
        marker: Marker, in matplotlib's words.
    """

    name: str
    label: str
    settings: str
    numpy: str
    light: str
    dark: str
    dash: str | tuple[float, tuple[float, float]]
    marker: str

    def stepper(self, framework: Framework, params: Any, *, lr: float) -> Step:
        """Make the optimizer for `params` and return its step.

        Raises:
            InputError: It does not exist in that framework.
        """
        if framework != "numpy":
            raise InputError(f"{self.name} does not run in {framework} yet")
        module, _, name = self.numpy.partition(":")
        step: Step = getattr(importlib.import_module(module), name)(params, lr=lr).step
        return step


_ALL = {
    entry.name: entry
    for entry in (
        Contestant(
            name="sgd", label="Gradient descent", settings="plain", numpy="rmsprop.rivals:GradientDescent",
            light="#55585f", dark="#b6bac4", dash=":", marker="s",
        ),
        Contestant(
            name="momentum", label="Momentum", settings="momentum 0.9", numpy="rmsprop.rivals:Momentum",
            light="#b5478a", dark="#e18fc0", dash="--", marker="^",
        ),
        Contestant(
            name="nesterov", label="Nesterov", settings="momentum 0.9", numpy="rmsprop.rivals:Nesterov",
            light="#c4500a", dark="#f08b4e", dash="--", marker="v",
        ),
        Contestant(
            name="adagrad", label="AdaGrad", settings="eps 1e-10", numpy="rmsprop.rivals:AdaGrad",
            light="#c98500", dark="#f0b93a", dash="-.", marker="D",
        ),
        Contestant(
            name="adadelta", label="Adadelta", settings="rho 0.9, eps 1e-6", numpy="rmsprop.rivals:Adadelta",
            light="#3d9bd9", dark="#7cc4f2", dash="-.", marker="P",
        ),
        Contestant(
            name="adam", label="Adam", settings="beta1 0.9, beta2 0.999, eps 1e-8", numpy="rmsprop.rivals:Adam",
            light="#0062a8", dark="#5aa9ea", dash=(0, (5, 1.5)), marker="X",
        ),
        Contestant(
            name="rmsprop", label="RMSprop", settings="rho 0.9, eps 1e-8 inside the root",
            numpy="rmsprop.numpy:RMSprop", light="#00875f", dark="#2fc99a", dash="-", marker="o",
        ),
    )
}  # fmt: skip


def names() -> tuple[str, ...]:
    """Return every optimizer's name."""
    return tuple(_ALL)


def get(name: str) -> Contestant:
    """Return the optimizer called `name`.

    Raises:
        InputError: No such optimizer; the message suggests the nearest name.

    Example:
        >>> get("adma")
        Traceback (most recent call last):
        rmsprop.errors.InputError: unknown rival 'adma': did you mean 'adam'? known: sgd, momentum, nesterov, \
adagrad, adadelta, adam, rmsprop
    """
    if name not in _ALL:
        raise InputError(f"unknown rival {name!r}{nearest(name, _ALL)}")
    return _ALL[name]


def chosen(wanted: str | Sequence[str] | None) -> tuple[str, ...]:
    """Read a list such as "sgd,adam,rmsprop": known names, each once, in the order given. None is the default five.

    Raises:
        InputError: An unknown name, or no name at all.

    Example:
        >>> chosen("rmsprop, adam,adam")
        ('rmsprop', 'adam')
    """
    if wanted is None:
        return DEFAULT
    parts = wanted.split(",") if isinstance(wanted, str) else wanted
    found = tuple(dict.fromkeys(get(part.strip().lower()).name for part in parts if part.strip()))
    if not found:
        raise InputError(f"--with names no optimizer; known: {', '.join(_ALL)}")
    return found
