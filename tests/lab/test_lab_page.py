"""Promise: the lab's page shows in a browser what the library computes."""

from __future__ import annotations

import functools
import gzip
import http.server
import re
import threading

import numpy as np
import pytest
from labpage import Lab, find_page, format_number, run_ravine

from rmsprop import dialects, expression

pytestmark = pytest.mark.browser


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words: object) -> None:
        pass


def test_the_page_is_one_file_of_at_most_260_kilobytes_compressed():
    assert [path.name for path in find_page().parent.iterdir()] == ["index.html"]
    assert len(gzip.compress(find_page().read_bytes(), 9)) <= 260 * 1024


def test_the_page_loads_nothing():
    head = find_page().read_text("utf-8").replace("</script>", "<script>").split("<script>")[0]
    assert "default-src 'none'" in head
    assert not re.search(r"(src|href)=\"(?!data:|#)|url\((?!\"?data:)|@import", head)


def test_the_page_asks_for_nothing_after_it_is_loaded(browser, url):
    lab = Lab(browser, url)
    requests = []
    lab.page.on("request", lambda request: requests.append(request.url))
    lab.open()
    for tab in ("steps", "heat", "basins", "apart", "notes", "table"):
        lab.page.click(f"#tab-{tab}")
    lab.wait_until("/end at a minimum/.test(document.querySelector('#basins-said').textContent)")
    lab.page.click("#export")
    with lab.page.expect_download():
        lab.page.click("#export-html")
    assert [each for each in requests if not each.startswith(("blob:", "data:"))] == [url]
    lab.close()


def test_any_static_server_is_enough(browser):
    handler = functools.partial(Quiet, directory=str(find_page().parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        lab = Lab(browser, f"http://127.0.0.1:{server.server_port}/").open()
        assert lab.get_points(0) == run_ravine()[0].ravel().tolist()
        lab.close()
        server.shutdown()


def test_without_webassembly_the_page_says_so(browser, url):
    lab = Lab(browser, url)
    lab.page.add_init_script("delete globalThis.WebAssembly")
    lab.page.goto(url)
    lab.wait_until("!!window.__lab && window.__lab.app.answers > 0")
    assert "WebAssembly" in lab.page.inner_text("#message")
    lab.close()


def test_a_long_computation_blocks_neither_the_page_nor_another_run(lab):
    order = lab.page.evaluate(
        """async () => {
          const { api, app } = __lab, done = [], signal = new AbortController().signal;
          const state = { ...app.state, text: "sin(x)*cos(y)*exp(-x^2)", steps: 2000 };
          const heat = api.sweep(state, 0, "rho").then((found) => (done.push("heat"), found));
          await api.run({ ...state, steps: 20 }, signal).then(() => done.push("run"));
          await heat;
          const old = new AbortController();
          const first = api.sweep(state, 0, "rho", old.signal).catch(() => done.push("ended"));
          old.abort();
          await first;
          const [between, alone] = [await heat, await api.sweep(state, 0, "rho")];
          return [...done, between.f.every((value, i) => Object.is(value, alone.f[i]))];
        }"""
    )
    assert order == ["run", "heat", "ended", True]


def test_the_points_are_identical_to_the_librarys(lab):
    points, values = run_ravine()
    assert lab.get_points(0) == points.ravel().tolist()
    assert lab.get("Array.from(__lab.app.result.runs[0].f)") == values.tolist()


@pytest.mark.parametrize("step", [0, 10, 20])
def test_the_loss_beside_the_timeline_is_the_librarys(lab, step):
    lab.get(f"__lab.seek({step})")
    assert lab.page.inner_text("#step-count") == f"{step} / 20"
    assert lab.get_losses()[0] == format_number(run_ravine()[1][step])


def test_the_pictures_change_with_time(lab):
    for name in ("#surface", "#contour"):
        shots: list[bytes] = []
        for step in (0, 10, 20):
            lab.get(f"__lab.seek({step})")
            shots.append(lab.take_new_screenshot(name, *shots))
        assert all(len(shot) > 8000 for shot in shots)  # a uniform picture compresses to far less


def test_the_squares_have_the_accumulators_area(lab):
    for step in (1, 9, 20):
        lab.get(f"__lab.seek({step})")
        one, two = lab.get("[__lab.squares(0), __lab.squares(1)]")
        for squares in (one, two):
            ratio = (squares["sides"][0] / squares["sides"][1]) ** 2
            assert ratio == pytest.approx(squares["statistic"][0] / squares["statistic"][1], rel=1e-9)
        across = (two["sides"][1] / one["sides"][1]) ** 2
        assert across == pytest.approx(two["statistic"][1] / one["statistic"][1], rel=1e-9)


def test_step_by_step_shows_the_steps_own_numbers(lab):
    lab.get("__lab.seek(3)")
    lab.page.click("#tab-steps")
    points, _ = run_ravine()
    grad = expression.parse("0.1*x^2 + 2*y^2").grad(points[3])
    assert f"g = {format_number(grad[0])}" in lab.page.inner_text('[data-part="Gradient"]')
    assert lab.page.inner_text('[data-part="Step"]').count(f"= {format_number(points[4][0])}") == 1
    assert lab.page.locator(".part.lit").get_attribute("data-part") == "Gradient"
    for _ in range(6):
        lab.page.click("#part-next")
    assert lab.get("__lab.app.step") == 4
    lab.page.click("#part-back")
    assert lab.get("__lab.app.step") == 3
    assert lab.page.locator(".part.lit").get_attribute("data-part") == "Step"
    assert lab.page.locator('[data-part="Root"] .katex').count() == 1


def test_a_click_on_the_heat_map_loads_its_cell(lab):
    lab.page.click("#tab-heat")
    lab.wait_until("/runs of/.test(document.querySelector('#panel-heat .hint').textContent)")
    box = lab.page.locator("#heat").bounding_box()
    with lab.wait_for_answer():
        lab.page.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.3)
    run = lab.get("__lab.app.state.runs[0]")
    assert 1e-4 < run["lr"] < 0.4
    assert run["own"]["rho"] > 0.9
    lab.page.locator("#heat").focus()
    lab.page.keyboard.press("ArrowUp")
    with lab.wait_for_answer():
        lab.page.keyboard.press("Enter")
    assert lab.get("__lab.app.state.runs[0].own.rho") > run["own"]["rho"]


def test_the_basins_show_where_the_starts_end(lab):
    with lab.wait_for_answer():
        lab.page.select_option("#scene", "himmelblau")
    lab.page.click("#tab-basins")
    lab.wait_until("/end at a minimum/.test(document.querySelector('#basins-said').textContent)")
    assert "4,096 starts" in lab.page.inner_text("#basins-said")
    assert lab.page.locator(".basin-list li").count() == 4


def test_two_dialects_are_compared_step_by_step(lab):
    lab.page.click("#tab-apart")
    with lab.wait_for_answer():
        lab.page.click("#torch-tf")
    a = run_ravine(dialects.get("torch").resolve())[0]
    b = run_ravine(dialects.get("tensorflow1").resolve())[0]
    apart = np.hypot(*(a - b).T)
    words = f"they are {format_number(apart[-1])} apart; the largest distance is {format_number(apart.max())}."
    lab.wait_until(f"document.querySelector('#apart-end')?.textContent.includes('{words}')")
    assert "eps_mode" in lab.page.inner_text(".apart-text")


def test_the_notes_are_shown_and_announced(lab):
    lab.page.click("#tab-notes")
    assert "The first step is 1.26 along each axis" in lab.page.inner_text("#panel-notes")
    lab.wait_until("document.querySelector('#live').textContent.length > 0")
    lab.page.get_by_role("button", name="show step 7").first.click()
    assert lab.get("__lab.app.step") == 7
    lab.wait_until("document.querySelector('#live').textContent.startsWith('Step 7 of 20')")


def test_the_table_has_the_runs_numbers(lab):
    lab.page.click("#tab-table")
    lab.get("__lab.seek(12)")
    row = lab.page.locator("tr.now")
    points, values = run_ravine()
    cells = row.locator("th, td").all_inner_texts()
    assert cells[0] == "12"
    assert cells[1:4] == [
        format_number(points[12, 0], 8),
        format_number(points[12, 1], 8),
        format_number(values[12], 8),
    ]


def test_hintons_scene_shows_the_drift(lab):
    with lab.wait_for_answer():
        lab.page.select_option("#scene", "#hinton")
    drift = [lab.get_points(run)[-2] - 5.0 for run in (0, 1)]
    assert drift[1] == pytest.approx(-0.05 * 8 * 20)
    assert abs(drift[0]) < abs(drift[1]) / 4


def test_a_run_that_leaves_is_marked_where_it_left(lab):
    with lab.wait_for_answer():
        lab.page.locator(".card > summary").nth(2).click()
        lab.page.locator('.card[data-run="2"] input[type=number][data-name="lr"]').fill("1.5")
    run = lab.get("(({exit, broken, steps}) => ({exit, broken, steps}))(__lab.app.result.runs[2])")
    assert run["exit"] is not None
    lab.get("__lab.app.seek(__lab.app.end)")
    # The arrow's color, near the edge of the map.
    lab.wait_until(
        """(() => {
          const canvas = document.querySelector("#contour"), c = canvas.getContext("2d");
          const {width, height} = canvas, data = c.getImageData(0, 0, width, height).data;
          let n = 0;
          // The ravine is twice as wide as high.
          const left = Math.max(0, (width - 2 * height) / 2), top = Math.max(0, (height - width / 2) / 2);
          for (let y = 0; y < height; y += 1) for (let x = 0; x < width; x += 1) {
            if (x > left + 24 && x < width - left - 24 && y > top + 24 && y < height - top - 24) continue;
            const i = 4 * (y * width + x);
            if (data[i] === 0x09 && data[i + 1] === 0xe3 && data[i + 2] === 0xff) n += 1;
          }
          return n > 40;
        })()"""
    )
    assert f"Left the picture at step {run['exit']}" in lab.get("document.querySelector('#panel-notes').textContent")
