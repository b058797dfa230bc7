"""The subcommands of `rmsprop` that have no package of their own; each module imports typer alone at its top."""
