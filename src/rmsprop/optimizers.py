"""One table of the optimizers: names, looks, hyperparameters, and how each framework makes them.

`race`, `tune`, `view` and `lab` read it; the lab's page gets it from the lab's server. Every optimizer has its
framework's default settings and its fastest form: fused where torch has one kernel for the whole step, foreach
otherwise. Colors stay apart under deuteranopia, protanopia and tritanopia, which a
test computes; markers and line styles differ as well.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from rmsprop.errors import InputError

__all__ = ["TABLE", "Build", "Dash", "Optimizer"]

Dash = str | tuple[float, tuple[float, ...]]
"""A line style of matplotlib: a name, or an offset and the lengths of dashes and gaps."""


@dataclasses.dataclass(frozen=True)
class Build:
    """How one framework makes an optimizer.

    Attributes:
        target: "module:class".
        note: What a reader should know beside the hyperparameters.
        options: What is passed beside the parameters and the learning rate.
        sparse: What is passed instead where an embedding's gradients are sparse; None: it is given dense ones.
    """

    target: str
    note: str = ""
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    sparse: Mapping[str, Any] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
    """One row.

    Attributes:
        name: In `rmsprop.baselines`, in a trace, and in the lab's links.
        alias: Its shorter name on the command line, where it has one.
        label: For a reader.
        light: Color on white, as #rrggbb.
        dark: Color on near-black.
        marker: In matplotlib's words.
        dash: Line style, in matplotlib's words.
        lr_scale: A stable learning rate relative to RMSprop's: without normalization, lr must stay below 1 / curvature.
        hyperparameters: Defaults of a baseline, in its own words; empty for RMSprop, whose rule has them.
        builds: Framework ("numpy" or "torch") -> how it is made there. What NumPy has, the lab has.
    """

    name: str
    alias: str = ""
    label: str
    light: str
    dark: str
    marker: str
    dash: Dash
    lr_scale: float = 1.0
    hyperparameters: Mapping[str, float] = dataclasses.field(default_factory=dict)
    builds: Mapping[str, Build]

    @property
    def short(self) -> str:
        """What the command line calls it."""
        return self.alias or self.name

    def build(self, framework: str) -> Build:
        """Return how `framework` makes it.

        Raises:
            InputError: It does not exist there.
        """
        if framework not in self.builds:
            raise InputError(
                f"{self.short} does not run in {framework}, only in {', '.join(self.builds)}: leave it out of --with"
            )
        return self.builds[framework]

    def settings(self, framework: str) -> str:
        """Return its numbers other than the learning rate, for a reader."""
        numbers = [f"{name} {value:g}".replace("e-0", "e-") for name, value in self.hyperparameters.items()]
        return ", ".join(filter(None, [*numbers, self.build(framework).note]))


_FUSED, _FOREACH = {"fused": True}, {"foreach": True}
_ADAM = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}

TABLE: dict[str, Optimizer] = {
    row.name: row
    for row in (
        Optimizer(
            name="gradient_descent", alias="sgd", label="Gradient descent", lr_scale=0.1,
            light="#2aa7c9", dark="#09e3ff", marker="s", dash=(0, (1.4, 1.2)),
            builds={
                "numpy": Build("rmsprop.baselines:GradientDescent", "plain"),
                "torch": Build("torch.optim:SGD", "plain, fused", _FUSED, sparse={}),
            },
        ),
        Optimizer(
            name="momentum", label="Momentum", lr_scale=0.025, hyperparameters={"momentum": 0.9},
            light="#c2189b", dark="#cc61af", marker="^", dash=(0, (3, 1.2)),
            builds={
                "numpy": Build("rmsprop.baselines:Momentum"),
                "torch": Build("torch.optim:SGD", "fused", {"momentum": 0.9, **_FUSED}),
            },
        ),
        Optimizer(
            name="nesterov", label="Nesterov", lr_scale=0.025, hyperparameters={"momentum": 0.9},
            light="#e82605", dark="#f94212", marker="v", dash=(0, (3, 1.2, 1, 1.2)),
            builds={
                "numpy": Build("rmsprop.baselines:Nesterov"),
                "torch": Build("torch.optim:SGD", "fused", {"momentum": 0.9, "nesterov": True, **_FUSED}),
            },
        ),
        Optimizer(
            name="adagrad", label="AdaGrad", hyperparameters={"eps": 1e-10},
            light="#101216", dark="#ffffff", marker="D", dash=(0, (6, 1.6)),
            builds={
                "numpy": Build("rmsprop.baselines:AdaGrad"),
                "torch": Build("torch.optim:Adagrad", "fused", _FUSED, sparse={}),
            },
        ),
        Optimizer(
            name="adadelta", label="Adadelta", hyperparameters={"rho": 0.9, "eps": 1e-6},
            light="#c89800", dark="#fcdc4f", marker="P", dash=(0, (8, 2, 2, 2)),
            builds={
                "numpy": Build("rmsprop.baselines:Adadelta"),
                "torch": Build("torch.optim:Adadelta", "foreach", _FOREACH),
            },
        ),
        Optimizer(
            name="adam", label="Adam", hyperparameters=_ADAM,
            light="#302fe8", dark="#857fff", marker="X", dash=(0, (6, 1.4, 1.4, 1.4)),
            builds={
                "numpy": Build("rmsprop.baselines:Adam"),
                "torch": Build("torch.optim:Adam", "fused", _FUSED),
            },
        ),
        Optimizer(
            name="adamw", label="AdamW", hyperparameters={**_ADAM, "weight_decay": 0.01},
            light="#660088", dark="#bb99ee", marker="p", dash=(0, (5, 1.5, 1, 1.5)),
            builds={
                "numpy": Build("rmsprop.baselines:AdamW"),
                "torch": Build("torch.optim:AdamW", "fused", _FUSED),
            },
        ),
        Optimizer(
            name="rmsprop", label="RMSprop",
            light="#008c52", dark="#2ec789", marker="o", dash="-",
            builds={
                "numpy": Build("rmsprop.numpy:RMSprop", "rho 0.9, eps 1e-8 inside the root"),
                "torch": Build("rmsprop.torch:RMSprop", "alpha 0.99, eps 1e-8 outside the root", sparse={}),
            },
        ),
        Optimizer(
            name="torch-rmsprop", label="torch.optim.RMSprop",
            light="#882200", dark="#ff9922", marker="h", dash=(0, (2, 1)),
            builds={
                "torch": Build("torch.optim:RMSprop", "alpha 0.99, eps 1e-8 outside the root, foreach", _FOREACH),
            },
        ),
    )
}  # fmt: skip
"""Every optimizer, by name."""
