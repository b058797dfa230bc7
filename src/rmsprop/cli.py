"""The `rmsprop` command.

Each subcommand is a function in its own module, named in `COMMANDS` and imported when it is called or listed. Such a
module imports typer and nothing heavier at its top, so that `rmsprop --help` stays quick.

What the library refuses ends as one red line and exit code 2; `--debug`, anywhere on the line, shows the traceback.
"""

from __future__ import annotations

import importlib
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from rmsprop import __version__
from rmsprop.errors import InputError, RMSpropError

__all__ = ["COMMANDS", "app", "main"]

COMMANDS: dict[str, str] = {
    "race": "rmsprop.race.command:race",
    "lab": "rmsprop.lab.command:lab",
    "minimize": "rmsprop.commands.minimize:minimize",
    "compare": "rmsprop.commands.minimize:compare",
    "dialects": "rmsprop.commands.dialects:dialects",
    "recipes": "rmsprop.commands.recipes:recipes",
    "convert": "rmsprop.commands.convert:convert",
    "doctor": "rmsprop.commands.doctor:doctor",
    "tune": "rmsprop.commands.tune:tune",
    "sensitivity": "rmsprop.commands.sensitivity:sensitivity",
}
"""Name -> "module:function", or "module:app" for a command with commands of its own."""

REFUSED = 2


class _Group(TyperGroup):
    """A group whose commands are imported on demand."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        if cmd_name not in self.commands:
            module, _, attribute = COMMANDS[cmd_name].partition(":")
            target = getattr(importlib.import_module(module), attribute)
            if not isinstance(target, typer.Typer):
                alone = typer.Typer(add_completion=False, rich_markup_mode=None)
                alone.command(cmd_name)(target)
                target = alone
            self.commands[cmd_name] = typer.main.get_command(target)
        return self.commands[cmd_name]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.obj = {"debug": "--debug" in args}
        rest: list[str] = super().parse_args(ctx, [arg for arg in args if arg != "--debug"])
        return rest

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        # Known names are looked up before a wrong one is refused, so that the refusal can suggest the nearest.
        for name in COMMANDS if args and args[0] not in COMMANDS else ():
            self.get_command(ctx, name)
        name, command, rest = super().resolve_command(ctx, args)  # type: ignore[assignment]
        known = {option for parameter in (command.params if command else ()) for option in parameter.opts}
        unknown = {arg.partition("=")[0] for arg in rest if arg.startswith("--")} - known
        if unknown:
            from rmsprop.select import SYNONYMS
        for option in unknown:
            ours = f"--{SYNONYMS.get(option[2:].replace('-', '_'), '').replace('_', '-')}"
            if ours in known:
                raise InputError(f"No such option: {option}. Did you mean {ours}?")
        return name, command, rest

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except RMSpropError as error:
            if ctx.obj["debug"]:
                raise
            from rich.console import Console

            Console(stderr=True, highlight=False).print(f"error: {error}", style="red", markup=False, soft_wrap=True)
            raise typer.Exit(REFUSED) from None


app = typer.Typer(
    name="rmsprop",
    cls=_Group,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if not wanted:
        return
    typer.echo(f"rmsprop {__version__}, Python {sys.version.split()[0]}")
    raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """The RMSprop optimizer at the command line; `rmsprop COMMAND --help` tells more.

    Examples:

    \b
      rmsprop race digits           train it beside its baselines on real data
      rmsprop race digits --quick   the same in seconds
      rmsprop race --list           what can be raced
      rmsprop minimize "x - x^3" --start -1 --animate x.gif
      rmsprop compare "0.1*x^2 + 2*y^2" --start -5,-2 --with adagrad,adam --plot paths.png
      rmsprop dialects torch tensorflow1
      rmsprop recipes dqn-nature    what the DQN paper trained with, and the code for it
      rmsprop doctor run.pt
      rmsprop tune digits           search lr, rho, eps, momentum and centering
      rmsprop sensitivity digits    how wide is the range of learning rates that work
    """  # noqa: D301, D412 (a backspace keeps the paragraph's lines apart in --help)


def main() -> None:
    """Run the command line: the entry point of the installed `rmsprop`."""
    app(prog_name="rmsprop")
