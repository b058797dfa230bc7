"""Promise: the lab's page works by keyboard, at every size and in every theme, and nothing overlaps."""

from __future__ import annotations

import itertools

import pytest
from labpage import Lab

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("tab", ["curves", "steps", "heat", "basins", "apart", "notes", "table"])
def test_every_control_is_reached_by_tab_and_has_a_name(lab, tab):
    lab.page.click(f"#tab-{tab}")
    lab.page.wait_for_timeout(300)
    lab.page.evaluate(
        """() => {
          document.querySelectorAll("details").forEach((d) => { d.open = true; });
          const seen = (e) => e.offsetParent !== null && !e.disabled && e.tabIndex >= 0;
          const all = [...document.querySelectorAll("a, button, input, select, textarea, summary, [tabindex]")];
          window.wanted = all.filter((e) => seen(e) && e.getAttribute("tabindex") !== "-1" && e.checkVisibility());
          window.met = new Set();
          document.addEventListener("focusin", (e) => window.met.add(e.target));
          document.body.focus();
        }"""
    )
    count = lab.get("window.wanted.length")
    assert count > 40
    for _ in range(count + 5):
        lab.page.keyboard.press("Tab")
    missed = lab.get("window.wanted.filter((e) => !window.met.has(e)).map((e) => e.outerHTML.slice(0, 90))")
    assert missed == []
    nameless = lab.get(
        """window.wanted.filter((e) => {
          const labels = e.labels ? [...e.labels].map((l) => l.textContent).join("") : "";
          return !(e.getAttribute("aria-label") || e.getAttribute("title") || labels || e.textContent.trim());
        }).map((e) => e.outerHTML.slice(0, 90))"""
    )
    assert nameless == []


def test_arrows_select_the_tabs(lab):
    lab.page.locator("#tab-curves").focus()
    lab.page.keyboard.press("ArrowRight")
    assert lab.page.get_attribute("#tab-steps", "aria-selected") == "true"
    assert lab.page.locator("#panel-steps").is_visible()
    lab.page.keyboard.press("ArrowLeft")
    lab.page.keyboard.press("ArrowLeft")
    assert lab.page.get_attribute("#tab-table", "aria-selected") == "true"
    assert lab.get("__lab.app.step") == 20


BOXES = ["#top", "#controls", "#surface", "#contour", "#dock", "#timeline"]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1280, 720), (1920, 1080), (390, 844)])
def test_nothing_overlaps_or_overflows(browser, url, width, height, theme):
    lab = Lab(browser, url, viewport={"width": width, "height": height}, color_scheme=theme).open()
    assert lab.get("document.documentElement.dataset.theme") == theme
    assert lab.get("document.documentElement.scrollWidth") <= width
    fixed = {"#timeline"} if width < 900 else set()
    boxes = {name: lab.page.locator(name).bounding_box() for name in BOXES if name not in fixed}
    for (one, a), (two, b) in itertools.combinations(boxes.items(), 2):
        across = min(a["x"] + a["width"], b["x"] + b["width"]) - max(a["x"], b["x"])
        down = min(a["y"] + a["height"], b["y"] + b["height"]) - max(a["y"], b["y"])
        assert across <= 0.5 or down <= 0.5, (one, two)
    if width > 900:
        assert lab.get("document.documentElement.scrollHeight") <= height
    # Controls do not overlap.
    crossed = lab.page.evaluate(
        """() => {
          const all = [...document.querySelectorAll("button, select, input, summary")];
          const shown = all.filter((e) => e.checkVisibility() && !e.closest("#timeline"));
          const boxes = shown.map((e) => [e, e.getBoundingClientRect()]).filter(([, r]) => r.width > 0);
          const found = [];
          for (let i = 0; i < boxes.length; i += 1) for (let j = i + 1; j < boxes.length; j += 1) {
            const [a, r] = boxes[i], [b, s] = boxes[j];
            if (a.contains(b) || b.contains(a)) continue;
            const w = Math.min(r.right, s.right) - Math.max(r.left, s.left);
            const h = Math.min(r.bottom, s.bottom) - Math.max(r.top, s.top);
            if (w > 1 && h > 1 && !a.closest("#controls") === !b.closest("#controls"))
              found.push(a.outerHTML.slice(0, 80) + b.outerHTML.slice(0, 80));
          }
          return found;
        }"""
    )
    assert crossed == []
    lab.close()


def test_reduced_motion_is_respected(browser, url):
    lab = Lab(browser, url, reduced_motion="reduce").open()
    lab.page.click("#tab-steps")
    assert lab.get("getComputedStyle(document.querySelector('.part')).transitionDuration") in ("0s", "")
    assert not lab.get("__lab.app.playing")
    lab.close()


def test_the_theme_button_selects_auto_light_and_dark(lab):
    for name, theme in (("Light", "light"), ("Dark", "dark"), ("Auto", "light")):
        lab.page.click("#theme")
        assert lab.page.inner_text("#theme") == name
        assert lab.get("document.documentElement.dataset.theme") == theme
