"""Promise: wheels and sdists contain the built page, so that their users do not need Node."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from labpage import Lab, find_page, open_browser
from serving import send

pytest.importorskip("scikit_build_core", reason="scikit-build-core is not installed: it builds the wheel")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def build(kind: str, out: Path) -> Path:
    """Build a wheel, without the compiled module, or an sdist."""
    code = (
        f"import sys; from scikit_build_core.build import build_{kind} as build;"
        "print(build(sys.argv[1], {'wheel.cmake': 'false'}))"
    )
    subprocess.run([sys.executable, "-c", code, str(out)], cwd=ROOT, check=True, capture_output=True)
    (archive,) = out.iterdir()
    return archive


def test_an_sdist_contains_the_page_and_its_source(tmp_path):
    find_page()
    with tarfile.open(build("sdist", tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"src/rmsprop/lab/page/index.html", "web/package-lock.json", "web/src/main.ts"} <= names
    assert not any("node_modules" in name for name in names)


@pytest.mark.browser
def test_an_installed_wheel_serves_the_page_without_node(tmp_path):
    find_page()
    (tmp_path / "dist").mkdir()
    site = tmp_path / "site"
    with zipfile.ZipFile(build("wheel", tmp_path / "dist")) as wheel:
        wheel.extractall(site)
    # Without `site`, the wheel is imported and not the checkout's editable install.
    code = "import sys; sys.path[:0] = sys.argv[1:3]; del sys.argv[1:3]; from rmsprop.cli import main; main()"
    packages = str(Path(np.__file__).parents[1])
    words = [sys.executable, "-S", "-c", code, str(site), packages, "lab", "--port", "0", "--no-open"]
    environment = {**os.environ, "PATH": str(tmp_path), "RMSPROP_PURE_PYTHON": "1"}
    process = subprocess.Popen(words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        port = int(re.search(r":(\d+)/", process.stdout.readline())[1])
        assert send(port, "/")[0] == 200
        with open_browser() as browser:
            lab = Lab(browser, f"http://127.0.0.1:{port}/").open()
            assert lab.get("__lab.app.result.runs[0].steps") == 20
            lab.close()
    finally:
        process.terminate()
        process.communicate(timeout=60)
