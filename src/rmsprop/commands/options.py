"""The options that several commands share, each declared once as a field of a dataclass.

    @takes
    def minimize(function: str, *, switches: Switches, run: Run) -> None: ...

The command has the options of `Switches` and `Run`, and is called with both filled in. An option that was not given is
None where its default depends on the dialect or the landscape.
"""

import dataclasses
import inspect
import math
from collections.abc import Callable
from typing import Annotated, Any, get_args

from typer import Option

from rmsprop.errors import InputError, RuleError
from rmsprop.rule import BufferMode, EpsMode, Nesterov, Rule, WeightDecayMode

__all__ = ["Changes", "Output", "Run", "Switches", "parse_numbers", "takes"]


def _switch(names: str, text: str) -> Any:
    return Option(names, help=text, show_default=False)


def _choice(kind: Any, text: str) -> Any:
    return Option(help=text, metavar="|".join(get_args(kind)))


class _Options:
    @property
    def given(self) -> list[str]:
        """The options whose values are not the defaults, as typed: --lr."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return [f"--{f.name.replace('_', '-')}" for f in fields if getattr(self, f.name) != f.default]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Changes:
    """The switches of `Rule`."""

    rho: Annotated[float | None, Option(help="Decay of the mean square, 0 to 1. [0.9]", metavar="R")] = None
    eps: Annotated[float | None, Option(help="Added to the denominator. [1e-8]", metavar="E")] = None
    eps_mode: Annotated[str | None, _choice(EpsMode, "Where eps is added. [inside]")] = None
    init: Annotated[
        str | None, Option(help="The mean square before the first step. [zeros]", metavar="zeros|ones|eps|V")
    ] = None
    centered: Annotated[bool | None, _switch("--centered/--no-centered", "Divide by the standard deviation.")] = None
    var_floor: Annotated[float | None, Option(help="Smallest mean square to divide by. [0]", metavar="V")] = None
    bias_correction: Annotated[
        bool | None, _switch("--bias-correction/--no-bias-correction", "Correct the averages for their start at zero.")
    ] = None
    momentum: Annotated[
        float | None, Option(help="Decay of the buffer; brings the dialect's buffer, or unit. [0]", metavar="M")
    ] = None
    buffer: Annotated[str | None, _choice(BufferMode, "What the buffer sums: the step with or without lr.")] = None
    nesterov: Annotated[str | None, _choice(Nesterov, "Whether to use Nesterov momentum. [none]")] = None
    weight_decay: Annotated[
        float | None, Option(help="Strength; brings the dialect's mode, or l2. [0]", metavar="W")
    ] = None
    weight_decay_mode: Annotated[str | None, _choice(WeightDecayMode, "Where weight decay acts.")] = None
    maximize: Annotated[bool | None, _switch("--maximize/--minimize", "Maximize instead.")] = None

    @property
    def changes(self) -> dict[str, Any]:
        """The options that were given, as switches of `Rule`."""
        fields = dataclasses.asdict(self)
        given = {name: value for name, value in fields.items() if value is not None and name != "dialect"}
        if "init" in given and given["init"] not in ("zeros", "ones", "eps"):
            try:
                given["init"] = float(given["init"])
            except ValueError:
                raise RuleError(f"init={given['init']!r}, expected zeros, ones, eps or a number") from None
        return given


@dataclasses.dataclass(frozen=True, kw_only=True)
class Switches(Changes):
    """A dialect, and changes to it."""

    dialect: Annotated[str | None, Option(help="Which variant: `rmsprop dialects` lists them.", metavar="NAME")] = None

    def rule(self) -> Rule:
        """Return the dialect's rule with the changes, or the library's own."""
        from rmsprop.select import select

        return select(self.dialect, self.changes).rule


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run(_Options):
    """Start, length and noise of a run."""

    start: Annotated[str | None, Option(help="Starting point: -1, or -5,-2.", metavar="X[,Y]")] = None
    lr: Annotated[float | None, Option(help="Learning rate, in units of x.", metavar="LR")] = None
    steps: Annotated[int | None, Option(help="Number of steps.", min=0, max=1_000_000, metavar="N")] = None
    noise: Annotated[float, Option(help="Standard deviation of the gradient noise.", min=0.0, metavar="S")] = 0.0
    seed: Annotated[int, Option(help="Seed of the noise; every optimizer gets the same.", min=0, metavar="N")] = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Output(_Options):
    """Which files to write, and how the pictures look."""

    plot: Annotated[str | None, Option(help="Write a picture: .png, .svg, .pdf, .jpg.", metavar="FILE")] = None
    animate: Annotated[str | None, Option(help="Write an animation: .gif, .apng, .webp, .mp4.", metavar="FILE")] = None
    csv: Annotated[str | None, Option(help="Write every step as a table.", metavar="FILE")] = None
    theme: Annotated[str, Option(help="light or dark.", metavar="THEME")] = "light"
    size: Annotated[str | None, Option(help="Pixels. [1280x800; an animation 640x480]", metavar="WxH")] = None
    dpi: Annotated[float, Option(help="Pixels per inch: how large text and lines are.", metavar="D")] = 100.0
    seconds: Annotated[float, Option(help="Length of the animation.", metavar="S")] = 4.0
    fps: Annotated[float, Option(help="Frames per second; at most 50 in a GIF.", metavar="F")] = 50.0
    domain: Annotated[
        str | None, Option(help="Part of the plane to draw: low:high of each variable.", metavar="X0:X1[,Y0:Y1]")
    ] = None

    def check_paths(self) -> None:
        """Raise InputError for an unknown kind of file or a folder that does not exist."""
        from rmsprop.view.figure import SUFFIXES, check_path
        from rmsprop.view.writers import FORMATS

        for path, kinds in ((self.plot, SUFFIXES), (self.animate, FORMATS), (self.csv, (".csv",))):
            if path is not None:
                check_path(path, kinds)


def takes(command: Callable[..., None]) -> Callable[..., None]:
    """Replace each parameter whose type is a dataclass by the options of that dataclass."""
    own = inspect.signature(command, eval_str=True).parameters.values()
    groups: dict[str, Any] = {p.name: p.annotation for p in own if dataclasses.is_dataclass(p.annotation)}
    options = [p for p in own if p.name not in groups]
    options += [p for group in groups.values() for p in inspect.signature(group).parameters.values()]
    options = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in options]

    def call(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in dataclasses.fields(group)})
        command(**values)

    call.__doc__ = command.__doc__
    call.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in options}
    return call


def parse_numbers(text: str, name: str, *, separator: str = ",", count: int | None = None) -> list[float]:
    """Parse "1,2", the value of the option `name`.

    Raises:
        InputError: Something that is no finite number, or another count of numbers.

    Example:
        >>> parse_numbers("-5, 2e-1", "--start")
        [-5.0, 0.2]
    """
    parts = text.split(separator)
    try:
        values = [float(part) for part in parts]
    except ValueError:
        values = [math.nan]
    if not all(map(math.isfinite, values)) or count not in (None, len(values)):
        expected = "finite numbers" if count is None else f"{count} finite numbers with {separator!r} between them"
        raise InputError(f"{name}: {text!r}, expected {expected}")
    return values
