"""What the tests of the documents share: the pages, read by a Markdown parser."""

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
    """A piece of a page and the line it begins at, counted from 1."""

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


@functools.cache
def tokens(page: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse((ROOT / page).read_text(encoding="utf-8"))


def python_blocks(page: str) -> list[Piece]:
    """The blocks fenced as python; their first line is the one below the fence."""
    fences = [token for token in tokens(page) if token.type == "fence" and token.info.strip() == "python"]
    return [Piece(page, token.map[0] + 2, token.content) for token in fences]


def shell_lines(page: str) -> list[Piece]:
    """The lines of indented blocks, where the documents put what is typed into a shell."""
    found = []
    for token in tokens(page):
        if token.type == "code_block":
            lines = token.content.rstrip("\n").split("\n")
            found += [Piece(page, token.map[0] + 1 + i, line) for i, line in enumerate(lines)]
    return found


def spans(page: str) -> list[Piece]:
    """What stands between backticks in the text."""
    return [Piece(page, line, token.content) for line, token in _inline(page) if token.type == "code_inline"]


def links(page: str) -> list[Piece]:
    """Where links and pictures lead."""
    attributes = {"link_open": "href", "image": "src"}
    return [
        Piece(page, line, str(token.attrGet(attributes[token.type])))
        for line, token in _inline(page)
        if token.type in attributes
    ]


@functools.cache
def anchors(page: str) -> set[str]:
    """What may stand behind # in a link to the page, as GitHub makes it of the headings."""
    found: set[str] = set()
    all_of_it = tokens(page)
    for opening, content in itertools.pairwise(all_of_it):
        if opening.type != "heading_open":
            continue
        heading = "".join(child.content for child in content.children or ())
        kept = "".join(c for c in heading.lower() if c in " -_" or unicodedata.category(c)[0] in "LNM")
        anchor = kept.strip().replace(" ", "-")
        again = (f"{anchor}-{number}" for number in range(1, 1000))
        found.add(anchor if anchor not in found else next(name for name in again if name not in found))
    return found


def _inline(page: str) -> list[tuple[int, Token]]:
    found = []
    for token in tokens(page):
        if token.type == "inline":
            found += [(token.map[0] + 1, child) for child in token.children or ()]
    return found
