"""Promise: the site has every public name and command, builds without a warning and needs no other host."""

from __future__ import annotations

import ast
import functools
import http.server
import importlib.util
import os
import re
import subprocess
import sys
import threading
import types
import zlib
from pathlib import Path

import pytest

from pages import PAGES, ROOT, python_blocks, shell_lines
from rmsprop import cli

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")


def _load_hooks():
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hooks = _load_hooks()
API = [page for page in PAGES if page.startswith("docs/api/")]


def find_imports() -> dict[str, str]:
    """The names that the package hands out -> the modules that they come from."""
    tree = ast.parse((hooks.PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in froms for alias in node.names}


# ---- what has to be there --------------------------------------------------------------------------------------------


def test_public_names_are_found():
    names = hooks.find_public_names()
    assert {"rmsprop.minimize", "rmsprop.torch.RMSprop", "rmsprop.view.plot", "rmsprop.errors.RuleError"} <= names
    assert not [name for name in names if name.startswith(("rmsprop.cli", "rmsprop._"))]


def test_every_public_name_has_a_place_in_an_api_page():
    text = "".join((ROOT / page).read_text(encoding="utf-8") for page in API)
    entries, imports = set(re.findall(r"^::: (\S+)", text, re.MULTILINE)), find_imports()

    def find_places(name: str) -> set[str]:
        """The name, its module, a function that its module is named after; `rmsprop.X` for `rmsprop.x.X`."""
        module, _, last = name.rpartition(".")
        places = {name, module, f"{name}.{last}"}
        if module == "rmsprop":
            places.add(imports.get(last, name))
        elif imports.get(last) == module:
            places.add(f"rmsprop.{last}")
        return places

    missing = [name for name in sorted(hooks.find_public_names()) if not find_places(name) & entries]
    assert missing == [], "add ::: and the name to a page in docs/api"


def test_every_page_is_in_the_navigation():
    navigation = re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(f"docs/{page}" for page in navigation) == [page for page in PAGES if page.startswith("docs/")]


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/learn/") and "watching" not in page])
def test_a_page_of_the_course_has_code_a_lab_and_three_answers(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert python_blocks(page)
    assert [line for line in shell_lines(page) if line.text.startswith("rmsprop lab --link")]
    assert re.findall(r'^\?\?\? question "(\d)\. .+"\n    \S', text, re.MULTILINE) == ["1", "2", "3"]


def test_the_course_quotes_the_benchmarks():
    races = (ROOT / "docs/why/races.md").read_text(encoding="utf-8")
    quoted = (ROOT / "docs/learn/when.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"\(\.\./why/races\.md#(\w+)\).*? \| (\S+)(?: %)? \| (.+?), (\S+)(?: %)? \| (.+?) \|$", quoted, re.MULTILINE
    )
    assert len(rows) == 6
    for task, ours, best, metric, verdict in rows:
        row = next(line for line in races.splitlines() if line.startswith(f"| [{task}]"))
        _, _, _, measured, _, winner, result, _ = (cell.strip() for cell in row.split("|"))
        assert measured.split(" ")[0] == ours
        assert winner.split(" ± ")[0].removesuffix(" %") == f"{best}, {metric}"
        assert result == verdict


def test_every_command_and_option_is_in_the_reference():
    text = hooks.on_page_markdown((ROOT / "docs/reference/commands.md").read_text(encoding="utf-8"))
    sections = dict(re.findall(r"^## `rmsprop (\w+)`\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    assert list(sections) == list(cli.COMMANDS)
    assert "--eps-mode" in sections["minimize"]
    assert "\b" not in text


def test_a_command_that_opens_the_lab_is_followed_by_it(tmp_path, monkeypatch):
    command = '    rmsprop lab --link "#v=1&f=x"'
    monkeypatch.setattr(hooks, "PAGE", tmp_path / "index.html")
    assert hooks.on_page_markdown(command) == command
    hooks.PAGE.touch()
    before, frame = hooks.on_page_markdown(command).split("\n\n")
    assert before == command
    assert 'src="../lab.html#v=1&amp;f=x"' in frame


def test_a_name_without_an_entry_fails_the_build(tmp_path):
    def build(names):
        lines = "".join(f"{name} py:function 1 api.html -\n" for name in names)
        (tmp_path / "objects.inv").write_bytes(b"#\n#\n#\n#\n" + zlib.compress(lines.encode()))
        hooks.on_post_build(types.SimpleNamespace(site_dir=str(tmp_path)))

    names = hooks.find_public_names()
    build(names)
    with pytest.raises(SystemExit, match=r"rmsprop\.view\.plot"):
        build(names - {"rmsprop.view.plot"})


# ---- the site --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    for package in ("mkdocs", "material", "mkdocstrings_handlers.python", "latex2mathml"):
        pytest.importorskip(package, reason=f"{package} is not installed: make docs installs what builds the site")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    run = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8", check=False, timeout=240
    )
    assert run.returncode == 0, run.stderr
    return folder


@pytest.mark.slow
def test_no_page_asks_another_host_for_anything(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > len(API)
    for path in pages:
        text = path.read_text(encoding="utf-8")
        tags = re.findall(r"<(?:script|link|img|iframe|source|video|audio)\b[^>]*>", text)
        assert not [tag for tag in tags if re.search(r"""(?:src|srcset|href)=["']?(?:https?:)?//""", tag)], path.name
    for path in site.rglob("*.css"):
        assert not re.search(r"""(?:url\(|@import )["']?(?:https?:)?//""", path.read_text(encoding="utf-8")), path.name


@pytest.mark.slow
def test_formulas_are_typeset_and_examples_are_code(site):
    rule = (site / "reference/rule.html").read_text(encoding="utf-8")
    assert rule.count("<math") > 20
    assert "arithmatex" not in rule
    api = (site / "api/numpy.html").read_text(encoding="utf-8")
    assert re.search(r"Examples:.*?<pre>.*?&gt;&gt;&gt;", api, re.DOTALL)


@pytest.mark.slow
@pytest.mark.browser
def test_a_browser_asks_no_other_host(site):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: it drives the browser")
    if not Path(CHROMIUM).exists():
        pytest.skip(f"chromium is not installed at {CHROMIUM}")
    handler = functools.partial(_QuietHandler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, sync_api.sync_playwright() as playwright:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        home = f"http://127.0.0.1:{server.server_port}/"
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        asked, errors = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        for path in ("index.html", "api/torch.html", "reference/rule.html", "reference/commands.html"):
            page.goto(home + path)
        found = page.locator(".md-search-result__item")
        while not found.count():  # the page forgets what is typed before its search index is read
            page.fill(".md-search__input", "")
            page.fill(".md-search__input", "effective_lr")
            page.wait_for_timeout(500)
        browser.close()
        server.shutdown()
    assert [url for url in asked if not url.startswith((home, "data:", "blob:"))] == []
    assert errors == []


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass
