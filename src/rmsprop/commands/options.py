"""The options that several commands share, declared once: a dataclass whose fields become a command's options.

    @takes(Switches, Run)
    def minimize(function: str, *, switches: Switches, run: Run) -> None: ...

Each dataclass named is filled from its options and handed over as the command's last parameters. An option that was not
given is None, so that what it stands for can depend on the dialect or the landscape.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

import typer

from rmsprop.errors import InputError, RuleError
from rmsprop.rule import BufferMode, EpsMode, Nesterov, Rule, WeightDecayMode

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Changes", "Output", "Run", "Switches", "numbers", "pairs", "takes"]


def _choices(kind: Any) -> str:
    return "|".join(get_args(kind))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Changes:
    """Every switch of `Rule`."""

    rho: Annotated[float | None, typer.Option(help="Decay of the mean square, 0 to 1. [0.9]", metavar="R")] = None
    eps: Annotated[float | None, typer.Option(help="Added to the denominator. [1e-8]", metavar="E")] = None
    eps_mode: Annotated[str | None, typer.Option(help="Where eps stands. [inside]", metavar=_choices(EpsMode))] = None
    init: Annotated[
        str | None, typer.Option(help="The mean square before the first step. [zeros]", metavar="zeros|ones|eps|V")
    ] = None
    centered: Annotated[
        bool | None,
        typer.Option("--centered/--no-centered", help="Divide by the standard deviation.", show_default=False),
    ] = None
    var_floor: Annotated[float | None, typer.Option(help="Least mean square to divide by. [0]", metavar="V")] = None
    bias_correction: Annotated[
        bool | None,
        typer.Option("--bias-correction/--no-bias-correction", help="Correct the start at zero.", show_default=False),
    ] = None
    momentum: Annotated[
        float | None, typer.Option(help="Decay of the buffer; brings the dialect's buffer, or unit. [0]", metavar="M")
    ] = None
    buffer: Annotated[
        str | None,
        typer.Option(help="What the buffer sums: the step with or without lr.", metavar=_choices(BufferMode)),
    ] = None
    nesterov: Annotated[
        str | None, typer.Option(help="Whether the buffer looks ahead. [none]", metavar=_choices(Nesterov))
    ] = None
    weight_decay: Annotated[
        float | None, typer.Option(help="Strength; brings the dialect's mode, or l2. [0]", metavar="W")
    ] = None
    weight_decay_mode: Annotated[str | None, typer.Option(help="Where it acts.", metavar=_choices(WeightDecayMode))] = (
        None
    )
    maximize: Annotated[
        bool | None, typer.Option("--maximize/--minimize", help="Climb instead.", show_default=False)
    ] = None

    @property
    def changes(self) -> dict[str, Any]:
        """What was said, as switches of `Rule`."""
        fields = dataclasses.asdict(self)
        said = {name: value for name, value in fields.items() if value is not None and name != "dialect"}
        if "init" in said and said["init"] not in ("zeros", "ones", "eps"):
            try:
                said["init"] = float(said["init"])
            except ValueError:
                raise RuleError(f"init={said['init']!r}, expected zeros, ones, eps or a number") from None
        return said


@dataclasses.dataclass(frozen=True, kw_only=True)
class Switches(Changes):
    """A dialect, and what is changed of it."""

    dialect: Annotated[
        str | None, typer.Option(help="Whose RMSprop: `rmsprop dialects` lists them.", metavar="NAME")
    ] = None

    def rule(self) -> Rule:
        """Return the rule: the dialect's with these changes, or the library's own."""
        from rmsprop.select import select

        return select(self.dialect, self.changes).rule


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """Where a run starts, how far it goes, and with what noise."""

    start: Annotated[str | None, typer.Option(help="Where: -1, or -5,-2.", metavar="X[,Y]")] = None
    lr: Annotated[float | None, typer.Option(help="Learning rate, in units of x.", metavar="LR")] = None
    steps: Annotated[int | None, typer.Option(help="How many steps at most.", min=0, max=1_000_000, metavar="N")] = None
    noise: Annotated[
        float, typer.Option(help="Standard deviation of noise added to each gradient.", min=0.0, metavar="S")
    ] = 0.0
    seed: Annotated[int, typer.Option(help="Of the noise; the same for every optimizer.", min=0, metavar="N")] = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Output:
    """What to write, and how it looks."""

    plot: Annotated[str | None, typer.Option(help="Write a picture: .png, .svg, .pdf, .jpg.", metavar="FILE")] = None
    animate: Annotated[
        str | None, typer.Option(help="Write an animation: .gif, .apng, .webp, .mp4.", metavar="FILE")
    ] = None
    csv: Annotated[str | None, typer.Option(help="Write every step as a table.", metavar="FILE")] = None
    theme: Annotated[str, typer.Option(help="light or dark.", metavar="THEME")] = "light"
    size: Annotated[str | None, typer.Option(help="Pixels. [1280x800; an animation 640x480]", metavar="WxH")] = None
    dpi: Annotated[float, typer.Option(help="How large text and lines are.", metavar="D")] = 100.0
    seconds: Annotated[float, typer.Option(help="How long the animation plays.", metavar="S")] = 4.0
    fps: Annotated[float, typer.Option(help="Its frames per second; a GIF has at most 50.", metavar="F")] = 50.0
    domain: Annotated[
        str | None, typer.Option(help="What the map shows: low:high of each variable.", metavar="X0:X1[,Y0:Y1]")
    ] = None

    def files(self) -> list[Path]:
        """Return the files to write, checked before anything is computed.

        Raises:
            InputError: A kind of file that is not known, or a folder that does not exist.
        """
        from rmsprop.view.figure import SUFFIXES, check_path
        from rmsprop.view.writers import FORMATS

        wanted = ((self.plot, SUFFIXES), (self.animate, FORMATS), (self.csv, (".csv",)))
        return [check_path(path, kinds) for path, kinds in wanted if path is not None]


def takes(*parts: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Turn the last parameters of a command, one for each dataclass, into that dataclass's options."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(command).parameters.values())
        kept = own[: len(own) - len(parts)]
        hints = get_type_hints(command, include_extras=True)
        signature = [parameter.replace(annotation=hints[parameter.name]) for parameter in kept]
        for part in parts:
            types = get_type_hints(part, include_extras=True)
            signature += [
                inspect.Parameter(
                    field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=types[field.name]
                )
                for field in dataclasses.fields(part)
            ]

        @functools.wraps(command)
        def call(**options: Any) -> None:
            mine = {parameter.name: options[parameter.name] for parameter in kept}
            filled = [part(**{f.name: options[f.name] for f in dataclasses.fields(part)}) for part in parts]
            command(**mine, **dict(zip((parameter.name for parameter in own[len(kept) :]), filled)))

        ordered = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in signature]
        call.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]
        call.__annotations__ = {p.name: p.annotation for p in ordered}
        del call.__wrapped__
        return call

    return decorate


def numbers(text: str, name: str, *, separator: str = ",") -> list[float]:
    """Read "1,2".

    Raises:
        InputError: Something that is no finite number.

    Example:
        >>> numbers("-5, 2e-1", "--start")
        [-5.0, 0.2]
    """
    import math

    values = []
    for part in text.split(separator):
        try:
            value = float(part)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InputError(f"{name}={text!r}, expected finite numbers, but {part.strip()!r} is none")
        values.append(value)
    return values


def pairs(text: str, name: str) -> list[list[float]]:
    """Read "-1:1,0:2" as pairs.

    Example:
        >>> pairs("-1:1,0:2", "--domain")
        [[-1.0, 1.0], [0.0, 2.0]]
    """
    found = [numbers(part, name, separator=":") for part in text.split(",")]
    for part, pair in zip(text.split(","), found):
        if len(pair) != 2:
            raise InputError(f"{name}={text!r}: {part.strip()!r} has {len(pair)} of 2 numbers, expected LOW:HIGH")
    return found
