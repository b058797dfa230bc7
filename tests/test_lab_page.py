"""The lab's page in a real browser: what it shows is what the library computes, and every control does its work."""

from __future__ import annotations

import gzip
import itertools
import json
import re

import numpy as np
import pytest

from labpage import Lab, browsing, built, written
from rmsprop import RMSprop, dialects, expression, landscapes
from serving import serving

pytest.importorskip("starlette", reason="starlette is not installed: the lab needs it")
pytest.importorskip("uvicorn", reason="uvicorn is not installed: the lab needs it")


@pytest.fixture(scope="module")
def browser():
    built()
    with browsing() as found:
        yield found


@pytest.fixture(scope="module")
def url():
    with serving() as port:
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture
def lab(browser, url):
    opened = Lab(browser, url).open()
    yield opened
    opened.close()


def ravine(rule=None, steps=20, lr=0.4):
    """The default scene as a user of the library runs it."""
    f = expression.parse("0.1*x^2 + 2*y^2")
    p = np.array([-5.0, -2.0])
    optimizer = RMSprop(p, lr=lr, rule=rule)
    points = [p.copy()]
    for _ in range(steps):
        optimizer.step(f.grad(p))
        points.append(p.copy())
    return np.array(points), np.array([f(point) for point in points])


def test_the_bundle_is_at_most_350_kilobytes_compressed():
    files = [path for path in built().rglob("*") if path.is_file()]
    assert sum(len(gzip.compress(path.read_bytes(), 9)) for path in files) <= 350 * 1024


def test_the_page_names_no_other_host():
    for path in built().rglob("*"):
        if path.suffix in (".html", ".css"):
            assert not re.search(r"(https?:)?//(?!www\.w3\.org)[a-z]", path.read_text())


def test_the_points_are_the_librarys_bit_for_bit(lab):
    points, values = ravine()
    assert lab.points(0) == points.ravel().tolist()
    assert lab.get("Array.from(__lab.app.result.runs[0].f)") == values.tolist()


@pytest.mark.parametrize("step", [0, 10, 20])
def test_the_loss_beside_the_timeline_is_the_librarys(lab, step):
    lab.get(f"__lab.seek({step})")
    assert lab.page.inner_text("#step-count") == f"{step} / 20"
    assert lab.shown()[0] == written(ravine()[1][step])


def test_the_pictures_change_with_time_and_are_not_empty(lab):
    shots = []
    for step in (0, 10, 20):
        lab.get(f"__lab.seek({step})")
        lab.page.wait_for_timeout(250)
        shots.append([lab.page.locator(name).screenshot() for name in ("#surface", "#contour")])
    for view in range(2):
        assert len({shot[view] for shot in shots}) == 3
        assert all(len(shot[view]) > 8000 for shot in shots)  # a uniform picture compresses to far less


def test_the_keyboard_alone_moves_through_time(lab):
    keys = lab.page.keyboard
    lab.page.evaluate("() => document.activeElement.blur()")
    keys.press("Home")
    assert lab.get("__lab.app.step") == 0
    for _ in range(3):
        keys.press("ArrowRight")
    assert lab.get("__lab.app.step") == 3
    keys.press("ArrowLeft")
    assert lab.get("__lab.app.step") == 2
    keys.press("Shift+ArrowRight")
    assert lab.get("__lab.app.step") == 12
    keys.press("End")
    assert lab.get("__lab.app.step") == 20
    keys.press("Home")
    keys.press(" ")
    assert lab.get("__lab.app.playing")
    lab.until("__lab.app.step >= 2")
    keys.press(" ")
    assert not lab.get("__lab.app.playing")


def test_the_buttons_move_through_time(lab):
    page = lab.page
    page.click("#first")
    assert lab.get("__lab.app.step") == 0
    page.click("#next")
    page.click("#next")
    page.click("#back")
    assert lab.get("__lab.app.step") == 1
    page.click("#last")
    assert lab.get("__lab.app.step") == 20
    page.select_option("#speed", "20")
    page.click("#play")
    lab.until("!__lab.app.playing")
    assert lab.get("__lab.app.step") == 20
    page.click("#loop")
    assert page.get_attribute("#loop", "aria-pressed") == "true"
    page.click("#play")
    page.wait_for_timeout(700)
    assert lab.get("__lab.app.playing")
    page.click("#play")


def test_the_slider_and_the_charts_scrub(lab):
    lab.page.locator("#time").fill("7")
    assert lab.get("__lab.app.step") == 7
    box = lab.page.locator("#chart-loss .u-over").bounding_box()
    lab.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 10)
    assert lab.get("__lab.app.step") == 10


def test_hovering_a_chart_shows_that_step_everywhere(lab):
    lab.get("__lab.seek(0)")
    lab.until("document.querySelector('#chart-rate .u-over')")
    box = lab.page.locator("#chart-rate .u-over").bounding_box()
    lab.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 10)
    lab.until("__lab.app.hover === 10")
    assert lab.shown()[0] == written(ravine()[1][10])


def own_fields(lab):
    # The page hears of it in an event, after its own listener this one.
    opening = """() => new Promise((done) => {
        const more = document.querySelector('.card .more');
        if (more.open) return done();
        more.addEventListener('toggle', () => done(), { once: true });
        more.open = true;
    })"""
    lab.page.evaluate(opening)
    return lab.page.locator(".card").first


@pytest.mark.parametrize(
    ("name", "value"),
    [("lr", 0.2), ("rho", 0.99), ("eps", 0.01), ("momentum", 0.5), ("weight_decay", 0.1)],
)
def test_a_number_field_changes_the_run_to_the_librarys(lab, name, value):
    field = own_fields(lab).locator(f'input[type=number][data-name="{name}"]')
    with lab.answer():
        field.fill(str(value))
    if name == "lr":
        expected = ravine(lr=value)[0]
    else:
        from rmsprop import Rule

        more = {"momentum": {"buffer": "unit"}, "weight_decay": {"weight_decay_mode": "l2"}}.get(name, {})
        expected = ravine(Rule(**{name: value}, **more))[0]
    assert lab.points(0) == expected.ravel().tolist()


def test_a_card_that_is_built_anew_keeps_what_was_opened(lab):
    card = own_fields(lab)
    lab.page.wait_for_timeout(100)
    lab.page.evaluate("() => __lab.app.emit('theme')")
    card.locator('input[type=number][data-name="weight_decay"]').fill("0.1", timeout=2000)
    with lab.answer():
        card.locator('select[data-name="eps_mode"]').select_option("outside")
    assert card.locator(".more").evaluate("each => each.open")


@pytest.mark.parametrize("name", ["lr", "rho", "eps", "momentum", "weight_decay"])
def test_a_slider_moves_by_key_and_changes_the_run(lab, name):
    before = lab.points(0)
    slider = own_fields(lab).locator(f'input[type=range][data-name="{name}"]')
    slider.focus()
    with lab.answer():
        for _ in range(60):
            lab.page.keyboard.press("ArrowRight")
    lab.until(f"JSON.stringify(Array.from(__lab.app.result.runs[0].x)) !== '{json.dumps(before)}'")
    assert lab.get("__lab.app.step") == 20


@pytest.mark.parametrize(
    ("name", "value", "changes"),
    [
        ("eps_mode", "outside", {}),
        ("init", "ones", {}),
        ("buffer", "unit", {}),
        ("weight_decay_mode", "decoupled", {}),
    ],
)
def test_a_choice_reaches_the_rule(lab, name, value, changes):
    with lab.answer():
        own_fields(lab).locator(f'select[data-name="{name}"]').select_option(value)
    assert lab.get(f"__lab.app.result.runs[0].rule.{name}") == value


@pytest.mark.parametrize("name", ["centered", "bias_correction"])
def test_a_switch_reaches_the_rule(lab, name):
    with lab.answer():
        own_fields(lab).locator(f'input[data-name="{name}"]').check()
    assert lab.get(f"__lab.app.result.runs[0].rule.{name}") is True


@pytest.mark.parametrize("name", ["torch", "tensorflow1", "keras3", "optax", "hinton", "dqn"])
def test_a_dialect_is_the_hosts_rule(lab, name):
    with lab.answer():
        lab.page.locator('select[data-name="dialect"]').first.select_option(name)
    assert lab.points(0) == ravine(dialects.get(name).resolve())[0].ravel().tolist()


def test_what_a_host_does_not_offer_is_said_and_undone(lab):
    lab.expected = 1
    with lab.answer():
        lab.page.locator('select[data-name="dialect"]').first.select_option("hinton")
    with lab.answer():
        own_fields(lab).locator('input[type=number][data-name="momentum"]').fill("0.5")
    assert "hinton" in lab.page.inner_text("#message")
    with lab.answer():
        lab.page.locator('select[data-name="dialect"]').first.select_option("")
    assert lab.page.locator("#message").is_hidden()


def test_optimizers_can_be_added_doubled_and_removed(lab):
    page = lab.page
    with lab.answer():
        page.select_option("#add", "nesterov")
    assert lab.get("__lab.app.result.runs.map(r => r.optimizer)")[-1] == "nesterov"
    page.locator(".card").first.locator("summary").first.click()
    with lab.answer():
        page.locator(".card").first.get_by_role("button", name="Duplicate").click()
    names = [text.split("\n")[0] for text in page.locator(".card > summary").all_inner_texts()]
    assert names[:2] == ["RMSprop 1", "RMSprop 2"]
    with lab.answer():
        page.get_by_role("button", name="Remove RMSprop 2").click()
    assert lab.get("__lab.app.result.runs.length") == 5


def test_start_steps_noise_and_seed_change_the_run(lab):
    page = lab.page
    with lab.answer():
        page.locator('[data-start="0"]').fill("3")
    assert lab.points(0)[:2] == [3.0, -2.0]
    with lab.answer():
        page.locator('input[type=number][data-name="steps"]').fill("33")
    assert lab.get("__lab.app.result.runs[0].steps") == 33
    with lab.answer():
        page.locator('select[data-name="noise"]').select_option("gauss")
    first = lab.points(0)
    with lab.answer():
        page.locator('[data-name="seed"]').fill("5")
    assert lab.points(0) != first
    with lab.answer():
        page.locator('[data-name="seed"]').fill("0")
    assert lab.points(0) == first


def test_a_click_on_the_map_moves_the_start(lab):
    box = lab.page.locator("#contour").bounding_box()
    with lab.answer():
        lab.page.mouse.click(box["x"] + box["width"] * 0.75, box["y"] + box["height"] * 0.25)
    x, y = lab.points(0)[:2]
    assert x == pytest.approx(3.0, abs=0.1)
    assert y == pytest.approx(1.5, abs=0.1)


def test_keys_move_the_start_and_zoom_the_map(lab):
    lab.page.locator("#contour").focus()
    with lab.answer():
        lab.page.keyboard.press("Shift+ArrowRight")
    assert lab.points(0)[0] == pytest.approx(-3.8)
    with lab.answer():
        lab.page.keyboard.press("-")
    assert lab.get("__lab.app.state.domain[0][0]") < -6


def test_keys_turn_the_surface(lab):
    before = lab.page.locator("#surface").screenshot()
    lab.page.locator("#surface").focus()
    lab.page.keyboard.press("ArrowRight")
    lab.page.wait_for_timeout(200)
    assert lab.page.locator("#surface").screenshot() != before
    assert lab.get("__lab.app.step") == 20


@pytest.mark.parametrize("name", landscapes.names(variables=2))
def test_every_surface_can_be_chosen(lab, name):
    if name != "ravine":
        with lab.answer():
            lab.page.select_option("#scene", name)
    scene = landscapes.get(name)
    assert lab.page.input_value("#function") == scene.text
    assert lab.page.inner_text("#teaches") == scene.teaches
    assert lab.points(0)[:2] == list(scene.start)


def test_a_typed_function_runs_and_an_error_points_at_its_column(lab):
    with lab.answer():
        lab.page.fill("#function", "x^4 + y^2 + x")
    assert lab.get("__lab.app.result.runs[0].f[0]") == expression.parse("x^4 + y^2 + x")([-5.0, -2.0])
    lab.expected = 1
    with lab.answer():
        lab.page.fill("#function", "x^2 + sine(y)")
    assert lab.page.get_attribute("#function", "aria-invalid") == "true"
    assert "did you mean 'sin'" in lab.page.inner_text("#function-error")
    # textContent: the part before the caret is there for its width alone and is not visible
    assert lab.get("document.querySelector('#function-error .before').textContent") == "x^2 + "
    with lab.answer():
        lab.page.fill("#function", "x^2 + sin(y)")
    assert lab.page.get_attribute("#function", "aria-invalid") == "false"
    assert lab.page.inner_text("#function-error") == ""


def test_a_link_restores_everything(lab, browser, url):
    with lab.answer():
        lab.page.select_option("#scene", "himmelblau")
    with lab.answer():
        lab.page.locator('select[data-name="dialect"]').first.select_option("torch")
    with lab.answer():
        lab.page.locator('select[data-name="noise"]').select_option("gauss")
    with lab.answer():
        lab.page.locator('input[type=number][data-name="scale"]').fill("0.5")
    lab.page.click("#tab-table")
    lab.get("__lab.seek(37)")
    lab.page.click("#share")
    link = lab.page.input_value("#link-text")
    other = Lab(browser, url)
    other.open(link.removeprefix(url))
    assert other.get("__lab.app.state") == lab.get("__lab.app.state")
    assert other.get("__lab.app.step") == 37
    for run in range(4):
        assert other.points(run) == lab.points(run)
    other.close()


@pytest.mark.parametrize(
    "hash",
    [
        "#v=2&f=x",
        "#nonsense",
        "#v=1&f=x&x=1,2",
        "#v=1&f=x&x=-1,1&y=1,-1&start=0,0&steps=9&run=rmsprop,lr=1",
        "#v=1&f=x&x=-1,1&y=-1,1&start=0,zero&steps=9&run=rmsprop,lr=1",
        "#v=1&f=x&x=-1,1&y=-1,1&start=0,0&steps=9&run=sgd,lr=1",
        "#v=1&f=x&x=-1,1&y=-1,1&start=0,0&steps=9&run=rmsprop,lr=1,__proto__=3",
        "#v=1&f=x&x=-1,1&y=-1,1&start=0,0&steps=9",
        "#v=1&f=" + "x" * 5000,
        "#%",
    ],
)
def test_a_broken_link_opens_the_default_with_a_message(browser, url, hash):
    lab = Lab(browser, url).open(hash)
    assert "cannot be read" in lab.page.inner_text("#message")
    assert lab.page.input_value("#function") == landscapes.get("ravine").text
    lab.page.get_by_role("button", name="Dismiss").click()
    assert lab.page.locator("#message").is_hidden()
    lab.close()


def test_numbers_in_a_link_are_bounded(browser, url):
    lab = Lab(browser, url)
    lab.open("#v=1&f=x^2&x=-1e99,1&y=-1,1&start=0,1e300&steps=1e9&run=rmsprop,lr=0.1&t=1e9")
    assert lab.get("__lab.app.state.steps") == 5000
    assert lab.get("__lab.app.state.start[1]") == 1e6
    assert lab.get("__lab.app.state.domain[0][0]") == -1e6
    lab.close()


def test_a_function_in_a_link_is_text_and_nothing_else(browser, url):
    lab = Lab(browser, url)
    lab.expected = 1
    lab.page.goto(
        url + "#v=1&f=<img src=x onerror=document.title=1>&x=-1,1&y=-1,1&start=0,0&steps=9&run=rmsprop,lr=0.1"
    )
    lab.until("!!window.__lab && window.__lab.app.answers > 0")
    assert lab.page.title() == "RMSprop lab"
    assert lab.page.locator("img").count() == 0
    lab.close()


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
    points, _ = ravine()
    grad = expression.parse("0.1*x^2 + 2*y^2").grad(points[3])
    assert f"g = {written(grad[0])}" in lab.page.inner_text('[data-part="Slope"]')
    assert lab.page.inner_text('[data-part="Step"]').count(f"= {written(points[4][0])}") == 1
    assert lab.page.locator(".part.lit").get_attribute("data-part") == "Slope"
    for _ in range(6):
        lab.page.click("#part-next")
    assert lab.get("__lab.app.step") == 4
    lab.page.click("#part-back")
    assert lab.get("__lab.app.step") == 3
    assert lab.page.locator(".part.lit").get_attribute("data-part") == "Step"
    assert lab.page.locator('[data-part="Root"] .katex').count() == 1


def test_a_click_on_the_heat_map_loads_its_cell(lab):
    lab.page.click("#tab-heat")
    lab.until("/runs of/.test(document.querySelector('#panel-heat .hint').textContent)")
    box = lab.page.locator("#heat").bounding_box()
    with lab.answer():
        lab.page.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.3)
    run = lab.get("__lab.app.state.runs[0]")
    assert 1e-4 < run["lr"] < 0.4
    assert run["own"]["rho"] > 0.9
    lab.page.locator("#heat").focus()
    lab.page.keyboard.press("ArrowUp")
    with lab.answer():
        lab.page.keyboard.press("Enter")
    assert lab.get("__lab.app.state.runs[0].own.rho") > run["own"]["rho"]


def test_the_basins_say_where_the_starts_end(lab):
    with lab.answer():
        lab.page.select_option("#scene", "himmelblau")
    lab.page.click("#tab-basins")
    lab.until("/end at a minimum/.test(document.querySelector('#basins-said').textContent)")
    assert "4,096 starts" in lab.page.inner_text("#basins-said")
    assert lab.page.locator(".basin-list li").count() == 4


def test_two_dialects_are_compared_step_by_step(lab):
    lab.page.click("#tab-apart")
    with lab.answer():
        lab.page.click("#torch-tf")
    a = ravine(dialects.get("torch").resolve())[0]
    b = ravine(dialects.get("tensorflow1").resolve())[0]
    apart = np.hypot(*(a - b).T)
    said = f"they are {written(apart[-1])} apart, at most {written(apart.max())}"
    lab.until(f"document.querySelector('#apart-end')?.textContent.includes('{said}')")
    assert "eps_mode" in lab.page.inner_text(".apart-text")


def test_the_notes_are_on_the_page_and_spoken(lab):
    lab.page.click("#tab-notes")
    assert "The first step is 1.26 along each axis" in lab.page.inner_text("#panel-notes")
    lab.until("document.querySelector('#live').textContent.length > 0")
    lab.page.get_by_role("button", name="show step 7").first.click()
    assert lab.get("__lab.app.step") == 7
    lab.until("document.querySelector('#live').textContent.startsWith('Step 7 of 20')")


def test_the_table_has_the_runs_numbers(lab):
    lab.page.click("#tab-table")
    lab.get("__lab.seek(12)")
    row = lab.page.locator("tr.now")
    points, values = ravine()
    cells = row.locator("th, td").all_inner_texts()
    assert cells[0] == "12"
    assert cells[1:4] == [written(points[12, 0], 8), written(points[12, 1], 8), written(values[12], 8)]


def test_hintons_scene_shows_the_drift(lab):
    with lab.answer():
        lab.page.select_option("#scene", "#hinton")
    drift = [lab.points(run)[-2] - 5.0 for run in (0, 1)]
    assert drift[1] == pytest.approx(-0.05 * 8 * 20)
    assert abs(drift[0]) < abs(drift[1]) / 4


def test_a_run_that_leaves_is_marked_where_it_left(lab):
    with lab.answer():
        lab.page.locator(".card > summary").nth(2).click()
        lab.page.locator('.card[data-run="2"] input[type=number][data-name="lr"]').fill("1.5")
    run = lab.get("(({exit, broken, steps}) => ({exit, broken, steps}))(__lab.app.result.runs[2])")
    assert run["exit"] is not None
    lab.get("__lab.app.seek(__lab.app.end)")
    # The arrow's colour, near the rim of the map.
    lab.until(
        """(() => {
          const canvas = document.querySelector("#contour"), c = canvas.getContext("2d");
          const {width, height} = canvas, data = c.getImageData(0, 0, width, height).data;
          let n = 0;
          for (let y = 0; y < height; y += 1) for (let x = 0; x < width; x += 1) {
            if (x > 24 && x < width - 24 && y > 24 && y < height - 24) continue;
            const i = 4 * (y * width + x);
            if (data[i] === 255 && data[i + 1] === 106 && data[i + 2] === 193) n += 1;
          }
          return n > 40;
        })()"""
    )
    assert f"Left the picture at step {run['exit']}" in lab.get("document.querySelector('#panel-notes').textContent")


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


def test_the_tabs_are_walked_with_arrows(lab):
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
def test_nothing_overlaps_and_nothing_sticks_out(browser, url, width, height, theme):
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
    # No control lies over another one.
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


def test_the_theme_button_goes_through_auto_light_and_dark(lab):
    for name, theme in (("Light", "light"), ("Dark", "dark"), ("Auto", "light")):
        lab.page.click("#theme")
        assert lab.page.inner_text("#theme") == name
        assert lab.get("document.documentElement.dataset.theme") == theme
