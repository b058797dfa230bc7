"""Who may run in a race: a name, how it is drawn, and how each framework makes it.

Every optimizer runs with the settings its own users call the default in that framework; the learning rate alone is
tuned. The rivals are those of `rmsprop.rivals` in NumPy and those of torch.optim in torch, there in their fastest form:
fused where torch has one kernel for the whole step, foreach otherwise. The colours are told apart by readers with any
of the common colour deficiencies, and line style and marker differ as well.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from rmsprop.errors import InputError
from rmsprop.race.stepper import NumpyStepper, Stepper, TorchStepper
from rmsprop.race.task import Framework, nearest

__all__ = ["DEFAULT", "Contestant", "Host", "chosen", "get", "names"]

DEFAULT = ("sgd", "momentum", "adagrad", "adam", "rmsprop")


@dataclasses.dataclass(frozen=True)
class Host:
    """How one framework makes an optimizer.

    Attributes:
        target: "module:class".
        settings: Its numbers other than the learning rate, for a reader.
        options: What is passed beside the parameters and the learning rate.
        sparse: What is passed instead where an embedding's gradients are sparse; None: it is given dense ones.
    """

    target: str
    settings: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    sparse: Mapping[str, Any] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contestant:
    """One optimizer.

    Attributes:
        name: What the command line calls it.
        label: What the report calls it.
        hosts: Framework -> how it is made there.
        light: Colour on white.
        dark: Colour on near-black.
        dash: Line style, in matplotlib's words.
        marker: Marker, in matplotlib's words.
    """

    name: str
    label: str
    hosts: Mapping[Framework, Host]
    light: str
    dark: str
    dash: str | tuple[float, tuple[float, ...]]
    marker: str

    def host(self, framework: Framework) -> Host:
        """Return how `framework` makes it.

        Raises:
            InputError: It does not exist there.
        """
        if framework not in self.hosts:
            raise InputError(
                f"{self.name} does not run in {framework}, only in {', '.join(self.hosts)}: leave it out of --with"
            )
        return self.hosts[framework]

    def settings(self, framework: Framework) -> str:
        """Its numbers other than the learning rate, for a reader."""
        return self.host(framework).settings

    def stepper(self, framework: Framework, params: Any, *, lr: float, sparse: bool = False) -> Stepper:
        """Make the optimizer for `params`.

        Args:
            framework: Of the parameters.
            params: What an optimizer of the framework takes. Written by every step.
            lr: Learning rate.
            sparse: Some gradients will be sparse: choose the form that takes them.

        Raises:
            InputError: It does not exist in that framework.
            MissingDependency: The framework is not installed.
        """
        host = self.host(framework)
        module, _, name = host.target.partition(":")
        options = host.sparse if sparse and host.sparse is not None else host.options
        made = getattr(importlib.import_module(module), name)(params, lr=lr, **options)
        if framework == "numpy":
            return NumpyStepper(made)
        return TorchStepper(made, wait=_waits_for(params[0]))


def _waits_for(param: Any) -> Any:
    """Return what waits until the device of a tensor has done its work, or None where calls return when it is done."""
    if param.device.type == "cpu":
        return None
    import torch

    # The parameters' own device: without it torch waits for the current one, which of several is another.
    return functools.partial(torch.accelerator.synchronize, param.device)


_FUSED, _FOREACH = {"fused": True}, {"foreach": True}


_ALL = {
    entry.name: entry
    for entry in (
        Contestant(
            name="sgd", label="Gradient descent",
            hosts={
                "numpy": Host("rmsprop.rivals:GradientDescent", "plain"),
                "torch": Host("torch.optim:SGD", "plain, fused", _FUSED, sparse={}),
            },
            light="#55585f", dark="#b6bac4", dash=":", marker="s",
        ),
        Contestant(
            name="momentum", label="Momentum",
            hosts={
                "numpy": Host("rmsprop.rivals:Momentum", "momentum 0.9"),
                "torch": Host("torch.optim:SGD", "momentum 0.9, fused", {"momentum": 0.9, **_FUSED}),
            },
            light="#b5478a", dark="#e18fc0", dash="--", marker="^",
        ),
        Contestant(
            name="nesterov", label="Nesterov",
            hosts={
                "numpy": Host("rmsprop.rivals:Nesterov", "momentum 0.9"),
                "torch": Host("torch.optim:SGD", "momentum 0.9, fused", {"momentum": 0.9, "nesterov": True, **_FUSED}),
            },
            light="#c4500a", dark="#f08b4e", dash="--", marker="v",
        ),
        Contestant(
            name="adagrad", label="AdaGrad",
            hosts={
                "numpy": Host("rmsprop.rivals:AdaGrad", "eps 1e-10"),
                "torch": Host("torch.optim:Adagrad", "eps 1e-10, fused", _FUSED, sparse={}),
            },
            light="#c98500", dark="#f0b93a", dash="-.", marker="D",
        ),
        Contestant(
            name="adadelta", label="Adadelta",
            hosts={
                "numpy": Host("rmsprop.rivals:Adadelta", "rho 0.9, eps 1e-6"),
                "torch": Host("torch.optim:Adadelta", "rho 0.9, eps 1e-6, foreach", _FOREACH),
            },
            light="#3d9bd9", dark="#7cc4f2", dash="-.", marker="P",
        ),
        Contestant(
            name="adam", label="Adam",
            hosts={
                "numpy": Host("rmsprop.rivals:Adam", "beta1 0.9, beta2 0.999, eps 1e-8"),
                "torch": Host("torch.optim:Adam", "beta1 0.9, beta2 0.999, eps 1e-8, fused", _FUSED),
            },
            light="#0062a8", dark="#5aa9ea", dash=(0, (5, 1.5)), marker="X",
        ),
        Contestant(
            name="adamw", label="AdamW",
            hosts={
                "torch": Host(
                    "torch.optim:AdamW", "beta1 0.9, beta2 0.999, eps 1e-8, weight_decay 0.01, fused", _FUSED
                ),
            },
            light="#6a4fc4", dark="#ab97f5", dash=(0, (5, 1.5, 1, 1.5)), marker="p",
        ),
        Contestant(
            name="rmsprop", label="RMSprop",
            hosts={
                "numpy": Host("rmsprop.numpy:RMSprop", "rho 0.9, eps 1e-8 inside the root"),
                "torch": Host("rmsprop.torch:RMSprop", "alpha 0.99, eps 1e-8 outside the root", sparse={}),
            },
            light="#00875f", dark="#2fc99a", dash="-", marker="o",
        ),
        Contestant(
            name="torch-rmsprop", label="torch.optim.RMSprop",
            hosts={
                "torch": Host("torch.optim:RMSprop", "alpha 0.99, eps 1e-8 outside the root, foreach", _FOREACH),
            },
            light="#8a6d3b", dark="#cfae76", dash=(0, (2, 1)), marker="h",
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
adagrad, adadelta, adam, adamw, rmsprop, torch-rmsprop
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
