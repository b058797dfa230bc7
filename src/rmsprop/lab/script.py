"""The same experiment to take away: as Python, and as one command."""

from __future__ import annotations

import dataclasses
import shlex
from typing import Any

from rmsprop import dialects
from rmsprop.lab.experiment import Experiment, Setting
from rmsprop.rule import Rule

__all__ = ["command", "python"]

_CLASSES = {
    "gradient_descent": "GradientDescent",
    "momentum": "Momentum",
    "nesterov": "Nesterov",
    "adagrad": "AdaGrad",
    "adadelta": "Adadelta",
    "adam": "Adam",
}


def python(experiment: Experiment) -> str:
    """Return a script that makes the same runs with `step` and prints where each ends, with all digits."""
    makers = [f"    {_label(i, s)!r}: lambda p: {_maker(s)}," for i, s in enumerate(experiment.settings)]
    names = ["RMSprop"] if any(s.rule is not None for s in experiment.settings) else []
    names += ["Rule"] if any(s.rule is not None and _needs_rule(s) for s in experiment.settings) else []
    names += ["dialects"] if any(s.dialect for s in experiment.settings) else []
    names += ["rivals"] if any(s.rule is None for s in experiment.settings) else []
    noise, use = _noise(experiment)
    return "\n".join(
        [
            "import numpy as np",
            "",
            f"from rmsprop import {', '.join(sorted(['expression', *names], key=str.lower))}",
            "",
            f'f = expression.parse({experiment.function.text!r}, variables=("x", "y"))',
            *noise,
            "optimizers = {",
            *makers,
            "}",
            "for name, make in optimizers.items():",
            f"    p = np.array([{experiment.start[0]!r}, {experiment.start[1]!r}])",
            "    optimizer = make(p)",
            f"    for t in range({experiment.steps}):",
            f"        optimizer.step(f.grad(p){use})",
            "    print(name, p.tolist(), f(p))",
            "",
        ]
    )


def _label(index: int, setting: Setting) -> str:
    return f"{index + 1} {setting.dialect or setting.optimizer}"


def _needs_rule(setting: Setting) -> bool:
    return setting.dialect is None and setting.rule != Rule()


def _maker(setting: Setting) -> str:
    if setting.rule is None:
        own = "".join(f", {name}={value!r}" for name, value in setting.own.items())
        return f"rivals.{_CLASSES[setting.optimizer]}(p, lr={setting.lr!r}{own})"
    if setting.dialect is not None:
        changes = ", ".join(f"{name}={value!r}" for name, value in setting.changes.items())
        rule = f", rule=dialects.get({setting.dialect!r}).resolve({changes})"
    else:
        rule = f", rule={setting.rule!r}" if _needs_rule(setting) else ""
    return f"RMSprop(p, lr={setting.lr!r}{rule})"


def _noise(experiment: Experiment) -> tuple[list[str], str]:
    noise = experiment.noise
    if experiment.noise.draw(1) is None:
        return [], ""
    if noise.kind == "gauss":
        draw = f"np.random.default_rng({noise.seed}).standard_normal(({experiment.steps}, 2))"
        return [f"noise = {noise.scale!r} * {draw}"], " + noise[t]"
    batches = f"{noise.scale!r} * np.resize(np.array([0.1] * 9 + [-0.9]), {experiment.steps})"
    return [f"noise = np.zeros(({experiment.steps}, 2))", f"noise[:, 0] = {batches}"], " + noise[t]"


def command(experiment: Experiment) -> str | None:
    """Return one `rmsprop compare` that draws these runs, or None where the command has no words for them.

    It has one RMSprop, its rivals at their own defaults beside it, and one lr for all.
    """
    first, *others = experiment.settings
    if first.rule is None or any(s.rule is not None for s in others) or experiment.noise.draw(1) is not None:
        return None
    if any(s.lr != first.lr or s != Setting.read({"optimizer": s.optimizer, "lr": s.lr}, "") for s in others):
        return None
    words = ["rmsprop", "compare", experiment.function.text]
    words += ["--start", f"{experiment.start[0]!r},{experiment.start[1]!r}", "--lr", repr(first.lr)]
    words += ["--steps", str(experiment.steps)]
    words += [] if first.dialect is None else ["--dialect", first.dialect]
    words += _switches(first)
    words += ["--with", ",".join(s.optimizer for s in others)] if others else []
    return shlex.join(words)


def _switches(setting: Setting) -> list[str]:
    base = Rule() if setting.dialect is None else dialects.get(setting.dialect).rule
    words: list[str] = []
    for field in dataclasses.fields(Rule):
        mine: Any = getattr(setting.rule, field.name)
        if field.name in ("rho", "eps") and setting.dialect is None:
            words += [f"--{field.name}", repr(mine)]
        elif mine != getattr(base, field.name) and field.name in {**setting.changes, field.name: mine}:
            flag = field.name.replace("_", "-")
            words += [f"--{flag}" if mine else f"--no-{flag}"] if isinstance(mine, bool) else [f"--{flag}", f"{mine}"]
    return words
