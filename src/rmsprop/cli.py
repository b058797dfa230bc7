"""The `rmsprop` command.

Each subcommand is a function in its own module, named in `COMMANDS` and imported when it is called or listed. Such a
module imports typer and nothing heavier at its top, so that `rmsprop --help` stays quick.

An error of the library or of the system ends as one red line and exit code 2; `--debug`, anywhere on the line, shows
the traceback.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from rmsprop import __version__
from rmsprop.errors import InputError, RMSpropError

__all__ = ["COMMANDS", "app", "main"]

COMMANDS: dict[str, str] = {
    "demo": "rmsprop.commands.demo:demo",
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
"""Name -> "module:function"."""

REFUSED = 2


class _Group(TyperGroup):
    """A group whose commands are imported on demand."""

    def main(self, args: Any = None, **options: Any) -> Any:  # type: ignore[override]
        words = list(sys.argv[1:] if args is None else args)
        try:
            return super().main([word for word in words if word != "--debug"], **options)
        except (RMSpropError, OSError) as error:
            if "--debug" in words:
                raise
            _print_error(error)
            sys.exit(REFUSED)

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            module, _, function = COMMANDS[cmd_name].partition(":")
            single = typer.Typer(add_completion=False, rich_markup_mode=None)
            single.command(cmd_name)(getattr(importlib.import_module(module), function))
            self.commands[cmd_name] = typer.main.get_command(single)
        return self.commands.get(cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        # All commands are imported before a wrong one is refused, so that the error can suggest the nearest.
        for name in COMMANDS if args and args[0] not in COMMANDS else ():
            self.get_command(ctx, name)
        name, command, rest = super().resolve_command(ctx, args)  # type: ignore[assignment]
        known = {option for parameter in (command.params if command else ()) for option in parameter.opts}
        for option in {arg.partition("=")[0] for arg in rest if arg.startswith("--")} - known:
            from rmsprop.select import SYNONYMS

            ours = f"--{SYNONYMS.get(option[2:].replace('-', '_'), '').replace('_', '-')}"
            if ours in known:
                raise InputError(f"No such option: {option}. Did you mean {ours}?")
        return name, command, rest


def _print_error(error: RMSpropError | OSError) -> None:
    from rich.console import Console

    from rmsprop.commands.words import escape

    message = str(error)
    if isinstance(error, OSError) and not isinstance(error, RMSpropError):
        path = error.filename2 or error.filename
        message = f"{path}: {error.strerror}" if path else error.strerror or str(error)
        message += "; --debug shows where"
    try:
        sys.stdout.flush()
    except OSError:
        # Python would try again at its end, and report that too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    Console(stderr=True, highlight=False).print(f"error: {escape(message)}", style="red", markup=False, soft_wrap=True)


app = typer.Typer(
    name="rmsprop",
    cls=_Group,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"rmsprop {__version__}, Python {sys.version.split()[0]}")
        raise typer.Exit


@app.callback()
def _describe(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Every RMSprop variant at the command line; `rmsprop COMMAND --help` describes a command.

    Examples:

    \b
      rmsprop demo                  a tour in five parts: ten seconds, one page
      rmsprop race digits           train it beside its baselines on real data
      rmsprop race digits --quick   the same in seconds
      rmsprop race --list           the tasks and optimizers
      rmsprop minimize "x - x^3" --start -1 --animate x.gif
      rmsprop compare "0.1*x^2 + 2*y^2" --start -5,-2 --with adagrad,adam --plot paths.png
      rmsprop dialects torch tensorflow1
      rmsprop recipes dqn-nature    what the DQN paper trained with, and the code for it
      rmsprop doctor run.pt
      rmsprop tune digits           search lr, rho, eps, momentum and centered
      rmsprop sensitivity digits    how wide is the range of learning rates that work
    """  # noqa: D301, D412 (a backspace keeps the paragraph's lines apart in --help)


def main() -> None:
    """Run the command line: the entry point of the installed `rmsprop`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a character shows "?" in its place.
            stream.reconfigure(errors="replace")
    app(prog_name="rmsprop")
