"""Measured ratios against the memory limit and the peers. Tests never import it.

A bench is a module with `main(quick) -> dict`; a value that is a list of rows is printed as a table. `python -m bench`
runs all of them.
"""
