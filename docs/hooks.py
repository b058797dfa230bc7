"""What the site has beyond its Markdown: the commands' reference, formulas as MathML, a check of the names."""

from __future__ import annotations

import ast
import html
import re
import shutil
import zlib
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[1] / "src" / "rmsprop"
PAGE = PACKAGE / "lab" / "page" / "index.html"
INTERNAL = {"cli", "commands", "select"}
"""Modules without an underscore that users do not import."""


def find_public_names() -> set[str]:
    """Return the full name of everything in the `__all__` of the package and of each public module."""
    found = set()
    for path in [*PACKAGE.glob("[!_]*.py"), *PACKAGE.glob("[!_]*/__init__.py"), PACKAGE / "__init__.py"]:
        parts = [part for part in path.relative_to(PACKAGE.parent).with_suffix("").parts if part != "__init__"]
        if INTERNAL.isdisjoint(parts):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                    found |= {".".join([*parts, name]) for name in ast.literal_eval(node.value)}
    return found


def write_commands() -> str:
    """Return the reference of every command, from its own help."""
    import typer.cli
    import typer.main

    from rmsprop.cli import app

    command = typer.main.get_command(app)
    text = typer.cli.get_docs_for_click(obj=command, ctx=typer.Context(command, info_name="rmsprop"), name="rmsprop")
    text = re.sub(r"\*\*Commands\*\*:.*?(?=\n## )", "", text, flags=re.DOTALL)  # the page has a table of contents
    # \b keeps the line breaks of what follows; the first line is the page's title.
    return re.sub(r"\x08\n((?:  .*\n)+)", lambda found: re.sub("(?m)^", "  ", found[1]), text).partition("\n")[2]


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the commands' reference in its place, and the lab, if it is built, below a command that opens it."""
    if "<!-- commands -->" in markdown:
        markdown = markdown.replace("<!-- commands -->", write_commands())
    if PAGE.exists():
        frame = '\n\n<iframe class="lab" title="The lab" loading="lazy" src="../lab.html{}"></iframe>'

        def embed(found: re.Match[str]) -> str:
            return found[0] + frame.format(html.escape(found[1]))

        markdown = re.sub(r'^    rmsprop lab --link "(#.*)"$', embed, markdown, flags=re.MULTILINE)
    return markdown


def on_page_content(content: str, **_: Any) -> str:
    r"""Typeset formulas: `$...$` and `$$...$$`, which the extension arithmatex turns into `\(...\)` and `\[...\]`."""
    from latex2mathml.converter import convert

    def typeset(found: re.Match[str]) -> str:
        tag, formula = found.groups()
        return convert(html.unescape(formula)[2:-2], display="block" if tag == "div" else "inline")

    return re.sub(r'<(span|div) class="arithmatex">(.*?)</\1>', typeset, content, flags=re.DOTALL)


def on_post_build(config: Any, **_: Any) -> None:
    """Copy the lab's page; fail if a public name has no entry in the API pages: no page shows it, or no docstring."""
    if PAGE.exists():
        shutil.copy(PAGE, Path(config.site_dir) / "lab.html")
    packed = (Path(config.site_dir) / "objects.inv").read_bytes().split(b"\n", 4)[4]
    entries = {line.split(" ", 1)[0] for line in zlib.decompress(packed).decode().splitlines()}
    entries |= {re.sub(r"\b(\w+)\.\1$", r"\1", entry) for entry in entries}  # a function that its module is named after
    missing = sorted(find_public_names() - entries)
    if missing:
        raise SystemExit(f"no entry in docs/api, or no docstring: {', '.join(missing)}")
