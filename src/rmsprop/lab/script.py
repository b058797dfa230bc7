"""The experiment as a Python script, and as a command."""

from __future__ import annotations

import dataclasses
import shlex
from typing import Any

from rmsprop import baselines, dialects
from rmsprop.expression import parse
from rmsprop.lab.experiment import Experiment, Setting
from rmsprop.rule import Rule

__all__ = ["write_command", "write_python"]


def write_python(experiment: Experiment) -> str:
    """Return a script that does the same runs with `step` and prints their last points with all digits."""
    makers = [f"    {_make_label(i, s)!r}: lambda p: {_write_maker(s)}," for i, s in enumerate(experiment.settings)]
    names = ["RMSprop"] if any(s.rule is not None for s in experiment.settings) else []
    names += ["Rule"] if any(s.rule is not None and _needs_rule(s) for s in experiment.settings) else []
    names += ["dialects"] if any(s.dialect for s in experiment.settings) else []
    names += ["baselines"] if any(s.rule is None for s in experiment.settings) else []
    noise, use = _write_noise(experiment)
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


def _make_label(index: int, setting: Setting) -> str:
    return f"{index + 1} {setting.dialect or setting.optimizer}"


def _needs_rule(setting: Setting) -> bool:
    return setting.dialect is None and setting.rule != Rule()


def _write_maker(setting: Setting) -> str:
    if setting.rule is None:
        own = "".join(f", {name}={value!r}" for name, value in setting.own.items())
        return f"baselines.{baselines.get(setting.optimizer).__name__}(p, lr={setting.lr!r}{own})"
    if setting.dialect is not None:
        changes = ", ".join(f"{name}={value!r}" for name, value in setting.changes.items())
        rule = f", dialect=dialects.get({setting.dialect!r}).resolve({changes})"
    else:
        rule = f", dialect={setting.rule!r}" if _needs_rule(setting) else ""
    return f"RMSprop(p, lr={setting.lr!r}{rule})"


def _write_noise(experiment: Experiment) -> tuple[list[str], str]:
    noise = experiment.noise
    if experiment.noise.draw(1) is None:
        return [], ""
    if noise.kind == "gauss":
        draw = f"np.random.default_rng({noise.seed}).standard_normal(({experiment.steps}, 2))"
        return [f"noise = {noise.scale!r} * {draw}"], " + noise[t]"
    batches = f"{noise.scale!r} * np.resize(np.array([0.1] * 9 + [-0.9]), {experiment.steps})"
    return [f"noise = np.zeros(({experiment.steps}, 2))", f"noise[:, 0] = {batches}"], " + noise[t]"


def write_command(experiment: Experiment) -> str | None:
    """Return an `rmsprop compare` (or `minimize`) command for these runs, or None if they cannot be written as one.

    The command has one RMSprop with any switches; the others are baselines with their default hyperparameters and
    unchanged dialects, each with its own learning rate.
    """
    first = next((s for s in experiment.settings if s.rule is not None), None)
    draw, text = experiment.noise.draw(1) is not None, experiment.function.text
    flat = len(parse(text).variables) == 1
    if first is None or (draw and (experiment.noise.kind != "gauss" or flat)):
        return None
    others = [_name_setting(s, first.lr) for s in experiment.settings if s is not first]
    if None in others:
        return None
    start = experiment.start[:1] if flat else experiment.start
    words = ["--start", ",".join(map(repr, start)), "--lr", repr(first.lr), "--steps", str(experiment.steps)]
    words += [] if first.dialect is None else ["--dialect", first.dialect]
    words += _write_switches(first)
    words += ["--noise", repr(experiment.noise.scale), "--seed", str(experiment.noise.seed)] if draw else []
    words += ["--with", ",".join(filter(None, others))] if others else []
    # A text that begins with a minus sign would be read as an option.
    sentence = ["--", text] if text.startswith("-") else [text]
    name = ["rmsprop", "compare" if others else "minimize"]
    return shlex.join([*name, *words, *sentence] if len(sentence) > 1 else [*name, *sentence, *words])


def _name_setting(setting: Setting, lr: float) -> str | None:
    """Return NAME or NAME:LR for `--with`, or None for a setting without a name."""
    rate = "" if setting.lr == lr else f":{setting.lr!r}"
    if setting.rule is None:
        usual = Setting.read({"optimizer": setting.optimizer, "lr": setting.lr}, "")
        return f"{setting.optimizer}{rate}" if setting.own == usual.own else None
    if setting.dialect is not None and not setting.changes:
        return f"{setting.dialect}{rate}"
    same = (name for name in dialects.names() if dialects.get(name).resolve() == setting.rule)
    name = next(same, None)
    return None if name is None else f"{name}{rate}"


_OPPOSITES = {"maximize": "minimize"}


def _write_switches(setting: Setting) -> list[str]:
    words: list[str] = []
    for field in dataclasses.fields(Rule):
        value: Any = getattr(setting.rule, field.name)
        if setting.dialect is not None:
            is_given = field.name in setting.changes
        else:
            is_given = field.name in ("rho", "eps") or value != field.default
        if not is_given:
            continue
        flag = field.name.replace("_", "-")
        if isinstance(value, bool):
            words += [f"--{flag}" if value else f"--{_OPPOSITES.get(flag, f'no-{flag}')}"]
        else:
            words += [f"--{flag}", str(value)]
    return words
