"""Promise: the page's captions and pictures say only what is so; each has a case where it must stay silent."""

from __future__ import annotations

import pytest
from labpage import Lab

from rmsprop import landscapes

pytestmark = pytest.mark.browser

NO_SQUARES = "None of these optimizers has an accumulator"


def load(lab: Lab, **changes) -> None:
    """Load the page's state with some parts changed, and wait for its runs and its surface."""
    with lab.wait_for_answer():
        lab.page.evaluate("(changes) => __lab.app.load({ ...__lab.app.state, ...changes }, Infinity)", changes)
    lab.wait_until("JSON.stringify(__lab.app.surface.domain) === JSON.stringify(__lab.app.state.domain)")
    lab.page.wait_for_timeout(100)


def run(optimizer: str, lr: float, **own) -> dict:
    return {"optimizer": optimizer, "lr": lr, "dialect": None, "own": own}


def open_state(lab: Lab, runs: list[dict], text: str, domain=((-2, 2), (-2, 2)), start=(1.0, 1.0), steps=20) -> None:
    load(lab, runs=runs, text=text, domain=domain, start=start, steps=steps)


@pytest.mark.parametrize("scene", landscapes.names(variables=2))
def test_a_scene_brings_the_cast_of_its_caption(lab, scene):
    open_state(lab, [run("adam", 0.1)], "x^2")
    with lab.wait_for_answer():
        lab.page.select_option("#scene", scene)
    caption = landscapes.get(scene).teaches
    assert lab.page.inner_text("#teaches") == caption
    runs = lab.get("__lab.app.state.runs")
    if "gradient descent" in caption:
        assert any(each["optimizer"] == "gradient_descent" for each in runs)
    if "RMSprop" in caption:
        assert any(each["optimizer"] == "rmsprop" for each in runs)
    if "momentum 0.9" in caption:
        assert any(each["own"].get("momentum") == 0.9 and each["optimizer"] == "rmsprop" for each in runs)


def test_a_caption_is_silent_without_its_cast(lab):
    assert "gradient descent lags" in lab.page.inner_text("#teaches")
    with lab.wait_for_answer():
        lab.page.evaluate("__lab.app.change({ runs: __lab.app.state.runs.slice(0, 1) })")
    assert lab.page.inner_text("#teaches") == ""


def test_hintons_caption_is_silent_without_rho_0(lab):
    with lab.wait_for_answer():
        lab.page.select_option("#scene", "#hinton")
    assert "rho 0, as rprop does" in lab.page.inner_text("#teaches")
    with lab.wait_for_answer():
        lab.page.evaluate("__lab.app.change({ runs: __lab.app.state.runs.slice(0, 1) })")
    assert lab.page.inner_text("#teaches") == ""


def test_a_negative_gradient_is_squared_in_brackets(lab):
    lab.page.click("#tab-steps")
    for x, text in ((-1.0, "(−1)² = 1"), (1.0, "1² = 1")):
        open_state(lab, [run("rmsprop", 0.1)], "x^2/2 + 3*y", start=(x, 1.0))
        lab.get("__lab.seek(0)")
        square = lab.page.inner_text('[data-part="Square"]')
        assert text in square
        assert ("(" in square.split("x\n", 1)[-1]) == (x < 0)


def test_about_one_is_said_only_where_it_is_so(lab):
    lab.page.click("#tab-steps")
    open_state(lab, [run("rmsprop", 0.01)], "3*x + 2*y", steps=60)
    lab.get("__lab.seek(0)")
    first = lab.page.inner_text('[data-part="Divide"]')
    assert "3.162" in first
    assert "±1" not in first
    lab.get("__lab.seek(59)")
    assert "about ±1" in lab.page.inner_text('[data-part="Divide"]')


def test_no_accumulator_is_said_only_where_there_is_none(lab):
    open_state(lab, [run("gradient_descent", 0.01), run("momentum", 0.01, momentum=0.9)], "x^2 + y^2")
    assert NO_SQUARES in lab.page.inner_text(".squares-body")
    # Undefined at the start: the mean has no number, but the optimizer keeps one.
    open_state(lab, [run("rmsprop", 0.01)], "log(x) + y^2", start=(-1.0, 1.0))
    assert NO_SQUARES not in lab.page.inner_text(".squares-body")


def test_the_squares_of_adagrad_stay_small_and_have_their_area(lab):
    runs = [run("rmsprop", 0.01), run("adagrad", 0.01)]
    open_state(lab, runs, "x^2 + 20*y^2", steps=3000)
    own, all_squares = lab.get("[__lab.squares(0), __lab.squares(1)]")
    assert 0 < max(own["sides"]) < max(all_squares["sides"]) <= 80
    ratio = (all_squares["sides"][1] / own["sides"][1]) ** 2
    assert ratio == pytest.approx(all_squares["statistic"][1] / own["statistic"][1], rel=1e-9)


def test_a_unit_of_x_is_as_long_as_one_of_y(lab):
    for domain, start in ((((-6, 6), (-1, 1)), (0.0, 0.5)), (((-1, 1), (-4, 4)), (0.0, 0.5))):
        open_state(lab, [run("rmsprop", 0.01)], "x^2 + y^2", domain=domain, start=start)
        box = lab.page.locator("#contour").bounding_box()
        unit = min(box["width"] / (domain[0][1] - domain[0][0]), box["height"] / (domain[1][1] - domain[1][0]))
        with lab.wait_for_answer():
            lab.page.mouse.click(box["x"] + box["width"] / 2 + 0.25 * unit, box["y"] + box["height"] / 2 - 0.25 * unit)
        assert lab.get("__lab.app.state.start") == pytest.approx([0.25, 0.25], abs=2 / unit)


def count_dark(lab: Lab) -> float:
    """Return the share of the map that has the color of nothing."""
    return lab.get(
        """(() => {
          const c = document.querySelector("#contour");
          const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
          let n = 0;
          for (let i = 0; i < d.length; i += 4) n += d[i] === 0x0a && d[i + 1] === 0x10 && d[i + 2] === 0x20;
          return n / (c.width * c.height);
        })()"""
    )


def test_where_the_function_is_undefined_the_map_has_a_hole(lab):
    open_state(lab, [run("rmsprop", 0.01)], "(x + 3)*(y + 3)")
    whole = count_dark(lab)
    open_state(lab, [run("rmsprop", 0.01)], "(x + 3)*(y + 3) + 0*log(x)")
    box = lab.page.locator("#contour").bounding_box()
    side = min(box["width"], box["height"])
    half = side * side / 2 / (box["width"] * box["height"])
    assert count_dark(lab) - whole > 0.9 * half


def test_a_low_spike_does_not_flatten_the_colors(lab):
    open_state(lab, [run("rmsprop", 0.01)], "x + y - 1000000*exp(-1000*(x^2 + y^2))")
    spread = lab.get("__lab.app.height.unit(1) - __lab.app.height.unit(-1)")
    assert spread > 0.1


def test_the_loss_chart_survives_a_negative_start(lab):
    open_state(lab, [run("gradient_descent", 0.05)], "x^2 + y^2 - 5", start=(1.0, 1.0), steps=60)
    assert lab.get("Math.max(...__lab.app.result.runs[0].f)") < 0
    # The part of the chart's rows in which the curve's light blue is.
    rows = lab.get(
        """(() => {
          const c = document.querySelector("#chart-loss canvas");
          const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
          const isCurve = (i) => d[i + 3] > 120 && d[i + 2] - d[i] > 60 && d[i + 1] - d[i] > 60;
          let n = 0;
          for (let y = 0; y < c.height; y += 1)
            n += Array.from({ length: c.width }, (_, x) => 4 * (y * c.width + x)).some(isCurve);
          return n / c.height;
        })()"""
    )
    assert rows > 0.4


def test_a_cell_of_the_heat_map_loads_what_it_showed(lab):
    lab.page.click("#tab-heat")
    lab.wait_until("/runs of/.test(document.querySelector('#panel-heat .hint').textContent)")
    box = lab.page.locator("#heat").bounding_box()
    where = (box["x"] + box["width"] * 0.61, box["y"] + box["height"] * 0.37)
    lab.page.mouse.move(*where)
    said = lab.page.inner_text(".heat-text")
    with lab.wait_for_answer():
        lab.page.mouse.click(*where)
    exact = lab.page.evaluate(
        """async () => {
          const map = await __lab.api.sweep(__lab.app.state, 0, "rho");
          const { lr, own } = __lab.app.state.runs[0];
          return map.f[map.other.indexOf(own.rho) * map.lr.length + map.lr.indexOf(lr)];
        }"""
    )
    assert exact == lab.get("__lab.app.result.runs[0].f.at(-1)")
    assert f"after {lab.get('__lab.app.state.steps')} steps" in said


def test_one_lucky_cell_does_not_change_the_heat_maps_colors(lab):
    lab.page.click("#tab-heat")
    lab.wait_until("/runs of/.test(document.querySelector('#panel-heat .hint').textContent)")
    # Of 4096 equal cells but for a gentle slope, one is lower by twelve decades.
    ends = lab.get("__lab.heatEnds(Float64Array.from({ length: 4096 }, (_, i) => (i === 7 ? -12 : 1 + i / 4096)))")
    assert ends[0] > 1
    assert 1.9 < ends[1] < 2


def test_an_exported_run_keeps_its_name(lab, browser, tmp_path):
    runs = [{**run("rmsprop", 0.1), "dialect": "tensorflow1"}, run("adagrad", 0.1)]
    open_state(lab, runs, "x^2 + y^2")
    names = ["RMSprop (tensorflow1)", "AdaGrad"]
    get_names = "Array.from(document.querySelectorAll('.value-run'), (each) => each.title)"
    assert lab.get(get_names) == names
    lab.page.click("#export")
    with lab.page.expect_download() as waiting:
        lab.page.click("#export-html")
    file = tmp_path / "saved.html"
    file.write_bytes(waiting.value.path().read_bytes())
    saved = Lab(browser, file.as_uri(), offline=True).open()
    assert saved.get(get_names) == names
    saved.close()
