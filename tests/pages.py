"""The pages of the documents, read by a Markdown parser."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import unicodedata
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    if not path.name.startswith(".")
)


@dataclasses.dataclass(frozen=True)
class Piece:
    """A part of a page and its first line, counted from 1."""

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


@functools.cache
def tokens(page: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse((ROOT / page).read_text(encoding="utf-8"))


def python_blocks(page: str) -> list[Piece]:
    """Return the fenced Python blocks; the line is the first below the fence."""
    fences = [token for token in tokens(page) if token.type == "fence" and token.info.strip() == "python"]
    return [Piece(page, token.map[0] + 2, token.content) for token in fences]


def shell_lines(page: str) -> list[Piece]:
    """Return the lines of indented blocks, which hold shell commands."""
    return [
        Piece(page, number, line)
        for token in tokens(page)
        if token.type == "code_block"
        for number, line in enumerate(token.content.rstrip("\n").split("\n"), start=token.map[0] + 1)
    ]


def spans(page: str) -> list[Piece]:
    """Return the code spans of the text."""
    return [Piece(page, line, token.content) for line, token in _inline(page) if token.type == "code_inline"]


def links(page: str) -> list[Piece]:
    """Return the targets of links and pictures."""
    attributes = {"link_open": "href", "image": "src"}
    return [
        Piece(page, line, str(token.attrGet(attributes[token.type])))
        for line, token in _inline(page)
        if token.type in attributes
    ]


@functools.cache
def anchors(page: str) -> set[str]:
    """Return the anchors that GitHub makes of the headings of a page."""
    found: set[str] = set()
    for opening, content in itertools.pairwise(tokens(page)):
        if opening.type != "heading_open":
            continue
        heading = "".join(child.content for child in content.children or ())
        letters = "".join(c for c in heading.lower() if c in " -_" or unicodedata.category(c)[0] in "LNM")
        anchor = letters.strip().replace(" ", "-")
        names = itertools.chain([anchor], (f"{anchor}-{number}" for number in itertools.count(1)))
        found.add(next(name for name in names if name not in found))
    return found


def _inline(page: str) -> list[tuple[int, Token]]:
    inline = (token for token in tokens(page) if token.type == "inline")
    return [(token.map[0] + 1, child) for token in inline for child in token.children or ()]
