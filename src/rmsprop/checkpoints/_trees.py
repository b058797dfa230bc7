"""Nested trees of dicts and lists: where in one the optimizer's state is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rmsprop.errors import InputError

__all__ = ["Place", "choose", "find_places"]


class Place(NamedTuple):
    """A node of a tree, its key in the parent, and the parent."""

    node: Any
    key: Any = None
    parent: Place | None = None

    def ancestors(self) -> Iterator[Place]:
        """Yield this place, its parent, and so on up to the root."""
        place: Place | None = self
        while place is not None:
            yield place
            place = place.parent

    @property
    def path(self) -> str:
        """The keys from the root to here: "a/0/b"."""
        keys = [str(place.key) for place in self.ancestors() if place.parent is not None]
        return "/".join(reversed(keys))


def find_places(tree: Any, is_wanted: Callable[[Mapping[str, Any]], bool]) -> list[Place]:
    """Return the places of all dicts that `is_wanted` accepts. Their insides are not searched.

    A node that appears several times is searched once, so that a tree that contains itself has an end.
    """
    found: list[Place] = []
    seen: set[int] = set()
    stack = [Place(tree)]
    while stack:
        place = stack.pop()
        node = place.node
        if not isinstance(node, (Mapping, list, tuple)) or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, Mapping) and is_wanted(node):
            found.append(place)
            continue
        children = list(node.items() if isinstance(node, Mapping) else enumerate(node))
        stack += [Place(child, key, place) for key, child in reversed(children)]
    return found


def choose(names: list[str], at: str | None, path: Path | str) -> int:
    """Return the index of the optimizer that the user means with `--at`; of a single one if `at` is None."""
    if at is not None and at not in names:
        raise InputError(f"at: no optimizer state at {at!r} in {path}, expected one of {names}")
    if at is None and len(names) > 1:
        raise InputError(f"{path}: several optimizer states; choose one with --at: {', '.join(names)}")
    return 0 if at is None else names.index(at)
