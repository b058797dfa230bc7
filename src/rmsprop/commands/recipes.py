"""`rmsprop recipes`. Cheap to import; everything heavy waits until it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rmsprop.recipes import Recipe

__all__ = ["make_code", "recipes"]


def recipes(
    name: Annotated[str | None, typer.Argument(help="A recipe; aliases too.", metavar="[NAME]", show_default=False)] = (
        None
    ),
) -> None:
    """Show what papers and projects trained with: rule, learning rate, schedule, clipping, source.

    Without a name: the table. With a name: everything known about it, and the lines that set it in each framework.

    Examples:

    \b
      rmsprop recipes
      rmsprop recipes dqn-nature
    """  # noqa: D301, D412
    from rmsprop import recipes as known
    from rmsprop.commands import words

    console = words.console()
    if name is None:
        rows = [(row.name, row.title, row.dialect, f"{row.lr:g}", words.describe(row.rule)) for row in known.all()]
        wide = ("what", "dialect", "rule")
        console.print(
            words.make_table(("name", "what", "dialect", "lr", "rule"), rows, left=("name", *wide), wrap=wide)
        )
        console.print("Everything about one, and its code: rmsprop recipes NAME.", style="dim")
        return
    row = known.get(name)
    console.print(f"{row.name}: {row.title}", style="bold", soft_wrap=True)
    console.print(
        words.make_facts(
            ("rule", words.describe(row.rule)),
            ("dialect", row.dialect),
            ("lr", f"{row.lr:g}; {row.schedule}"),
            ("gradients clipped", "" if row.max_norm is None else f"to norm {row.max_norm:g}"),
            ("also called", ", ".join(row.aliases)),
            *(("with", fact) for fact in row.facts),
            *(("note", text) for text in row.notes),
            ("source", row.source),
            ("evidence", f"{row.evidence}: {words.EVIDENCE[row.evidence]}"),
        )
    )
    console.print(f"import rmsprop\n\nrow = rmsprop.recipe({row.name!r})", markup=False)
    for framework, line in make_code(row).items():
        console.print(f"\n# {framework}\n{line}", soft_wrap=True, markup=False)


def make_code(row: Recipe) -> dict[str, str]:
    """Return the line that sets a recipe, `row`, for each framework; the learning rate is the one at the start.

    Example:
        >>> from rmsprop import recipes
        >>> make_code(recipes.get("a3c"))["Keras"]
        'optimizer = rmsprop.keras.RMSprop(row.lr, dialect=row.rule, global_clipnorm=row.max_norm)'
    """
    arguments = "row.lr, dialect=row.rule"
    tx = f"rmsprop.jax.rmsprop({arguments})"
    max_norm, global_clipnorm = "", ""
    if row.max_norm is not None:
        max_norm, global_clipnorm = ", max_norm=row.max_norm", ", global_clipnorm=row.max_norm"
        tx = f"optax.chain(optax.clip_by_global_norm(row.max_norm), {tx})"
    return {
        "PyTorch": f"optimizer = rmsprop.torch.RMSprop(params, {arguments}{max_norm})",
        "JAX": f"tx = {tx}",
        "Keras": f"optimizer = rmsprop.keras.RMSprop({arguments}{global_clipnorm})",
        "NumPy": f"optimizer = rmsprop.RMSprop(params, lr=row.lr, dialect=row.rule{max_norm})",
    }
