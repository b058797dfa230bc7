"""Nested dicts, lists and tuples of leaves, flattened in one fixed order.

A leaf is anything else, `None` included, so that a missing gradient is a leaf too. Dicts are walked in the order of
the tree that was flattened first: the gradients' dict may list its keys in another order than the parameters'.
"""

from __future__ import annotations

from typing import Any

from rmsprop.errors import InputError

__all__ = ["Structure", "flatten", "leaves_like", "unflatten"]

_MISSING = object()

Structure = Any
"""`None` for a leaf, else (type, keys or length, structures of the children); comparable with ==."""


def flatten(tree: Any, name: str = "params") -> tuple[list[Any], list[str], Structure]:
    """Return the leaves, a path for each (`params['layer'][0]`), and the structure.

    Example:
        >>> leaves, paths, structure = flatten({"w": 1.0, "b": [2.0, 3.0]})
        >>> leaves, paths
        ([1.0, 2.0, 3.0], ["params['w']", "params['b'][0]", "params['b'][1]"])
    """
    leaves: list[Any] = []
    paths: list[str] = []
    try:
        return leaves, paths, _walk(tree, name, leaves, paths)
    except RecursionError:
        raise InputError(f"{name}: a tree that contains itself, or is nested too deeply") from None


def _walk(tree: Any, path: str, leaves: list[Any], paths: list[str]) -> Structure:
    if isinstance(tree, dict):
        keys = tuple(tree)
        return dict, keys, tuple(_walk(tree[key], f"{path}[{key!r}]", leaves, paths) for key in keys)
    if isinstance(tree, (list, tuple)):
        children = tuple(_walk(child, f"{path}[{i}]", leaves, paths) for i, child in enumerate(tree))
        return type(tree), len(tree), children
    leaves.append(tree)
    paths.append(path)
    return None


def leaves_like(structure: Structure, tree: Any, name: str = "grads", like: str = "params") -> list[Any]:
    """Return the leaves of `tree`, which must be built like `structure`; a list in the place of a leaf is a leaf.

    Raises:
        InputError: Another structure; the message names the first place that differs.
    """
    leaves: list[Any] = []
    _collect(structure, tree, leaves, name, like)
    return leaves


def _collect(structure: Structure, tree: Any, leaves: list[Any], path: str, like: str) -> None:
    if structure is None:
        if isinstance(tree, dict):
            raise InputError(f"{path}: a dict, expected one array like {like}")
        leaves.append(tree)
        return
    kind, keys, children = structure
    if kind is dict:
        if not isinstance(tree, dict):
            raise InputError(f"{path}: {_name(tree)}, expected a dict like {like}")
        if len(tree) != len(keys):
            _refuse_keys(tree, keys, path, like)
        for key, child in zip(keys, children):
            value = tree.get(key, _MISSING)  # a defaultdict would make up what is missing
            if value is _MISSING:
                _refuse_keys(tree, keys, path, like)
            if child is None and not isinstance(value, dict):
                leaves.append(value)
            else:
                _collect(child, value, leaves, f"{path}[{key!r}]", f"{like}[{key!r}]")
        return
    if not isinstance(tree, (list, tuple)):
        raise InputError(f"{path}: {_name(tree)}, expected a {kind.__name__} of {keys} like {like}")
    if len(tree) != keys:
        raise InputError(f"{path}: length {len(tree)}, expected {keys} like {like}")
    for i, (value, child) in enumerate(zip(tree, children)):
        if child is None and not isinstance(value, dict):
            leaves.append(value)
        else:
            _collect(child, value, leaves, f"{path}[{i}]", f"{like}[{i}]")


def _refuse_keys(tree: dict[Any, Any], keys: tuple[Any, ...], path: str, like: str) -> None:
    missing = [key for key in keys if key not in tree]
    extra = [key for key in tree if key not in keys]
    what = f"key {missing[0]!r} is missing" if missing else f"key {extra[0]!r} is not in {like}"
    raise InputError(f"{path}: {what}; the structure must stay that of {like}")


def _name(tree: Any) -> str:
    return "None" if tree is None else f"a {type(tree).__name__}"


def unflatten(structure: Structure, leaves: list[Any]) -> Any:
    """Build a tree of this structure from its leaves in order.

    Example:
        >>> _, _, structure = flatten({"w": 1.0, "b": [2.0, 3.0]})
        >>> unflatten(structure, ["a", "b", "c"])
        {'w': 'a', 'b': ['b', 'c']}
    """
    return _build(structure, iter(leaves))


def _build(structure: Structure, leaves: Any) -> Any:
    if structure is None:
        return next(leaves)
    kind, keys, children = structure
    if kind is dict:
        return {key: _build(child, leaves) for key, child in zip(keys, children)}
    built = [_build(child, leaves) for child in children]
    return kind(*built) if hasattr(kind, "_fields") else kind(built)
