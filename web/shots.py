"""Take pictures of the lab: `python web/shots.py docs/pictures` makes the pictures of docs/use/lab.md.

With `--sizes FOLDER` it takes pictures of every screen size in both themes instead.
Needs the built page, playwright and a Chromium (at the path in the variable CHROMIUM, else /usr/bin/chromium).
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "lab"))

from labpage import Lab, find_page, open_browser
from serving import run_server

SIZES = {"desktop": (1280, 720), "wide": (1920, 1080), "phone": (390, 844)}


def compress(path: Path) -> None:
    """Write the file again with the best lossless compression."""
    from PIL import Image

    Image.open(path).convert("RGB").save(path, optimize=True)


def take_pictures(folder: Path, url: str, browser: object) -> None:
    """Take the three pictures of the documentation."""
    lab = Lab(browser, url).open()
    lab.get("__lab.seek(12)")
    lab.page.wait_for_timeout(500)
    lab.page.screenshot(path=folder / "lab.png")
    lab.close()

    lab = Lab(browser, url, color_scheme="dark").open()
    with lab.wait_for_answer():
        lab.page.select_option("#scene", "himmelblau")
    lab.page.click("#tab-heat")
    lab.wait_until("/runs of/.test(document.querySelector('#panel-heat .hint').textContent)")
    lab.page.wait_for_timeout(500)
    lab.page.screenshot(path=folder / "lab-heat.png")
    lab.close()

    lab = Lab(browser, url).open()
    lab.page.click("#tab-steps")
    lab.get("__lab.seek(3)")
    for _ in range(2):
        lab.page.click("#part-next")
    lab.page.wait_for_timeout(500)
    lab.page.screenshot(path=folder / "lab-steps.png")
    lab.close()
    for name in ("lab", "lab-heat", "lab-steps"):
        compress(folder / f"{name}.png")


def take_all_sizes(folder: Path, url: str, browser: object) -> None:
    """Take a picture of every size in both themes."""
    for name, (width, height) in SIZES.items():
        for theme in ("light", "dark"):
            lab = Lab(browser, url, viewport={"width": width, "height": height}, color_scheme=theme).open()
            lab.page.wait_for_timeout(600)
            lab.page.screenshot(path=folder / f"{name}-{theme}.png")
            lab.close()


def main() -> None:
    """Take the pictures."""
    words = [word for word in sys.argv[1:] if word != "--sizes"]
    folder = Path(words[0] if words else "docs/pictures")
    folder.mkdir(parents=True, exist_ok=True)
    with run_server(find_page().read_text("utf-8")) as port, open_browser() as browser:
        (take_all_sizes if "--sizes" in sys.argv else take_pictures)(folder, f"http://127.0.0.1:{port}/", browser)


if __name__ == "__main__":
    main()
