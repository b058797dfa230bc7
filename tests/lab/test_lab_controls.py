"""Promise: every control of the lab's page works, by mouse and by key, and the numbers are then the library's."""

from __future__ import annotations

import json

import pytest
from labpage import format_number, open_fields, run_ravine

from rmsprop import dialects, expression, landscapes

pytestmark = pytest.mark.browser


# ---- time ------------------------------------------------------------------------------------------------------------


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
    lab.wait_until("__lab.app.step >= 2")
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
    lab.wait_until("!__lab.app.playing")
    assert lab.get("__lab.app.step") == 20
    page.click("#loop")
    assert page.get_attribute("#loop", "aria-pressed") == "true"
    page.click("#play")
    page.wait_for_timeout(700)
    assert lab.get("__lab.app.playing")
    page.click("#play")


def test_the_slider_and_the_charts_set_the_step(lab):
    lab.page.locator("#time").fill("7")
    assert lab.get("__lab.app.step") == 7
    box = lab.page.locator("#chart-loss .u-over").bounding_box()
    lab.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 10)
    assert lab.get("__lab.app.step") == 10


def test_hovering_a_chart_shows_that_step_everywhere(lab):
    lab.get("__lab.seek(0)")
    lab.wait_until("document.querySelector('#chart-rate .u-over')")
    box = lab.page.locator("#chart-rate .u-over").bounding_box()
    lab.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 10)
    lab.wait_until("__lab.app.hover === 10")
    assert lab.get_losses()[0] == format_number(run_ravine()[1][10])


# ---- optimizers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"), [("lr", 0.2), ("rho", 0.99), ("eps", 0.01), ("momentum", 0.5), ("weight_decay", 0.1)]
)
def test_a_number_field_changes_the_run(lab, name, value):
    field = open_fields(lab).locator(f'input[type=number][data-name="{name}"]')
    with lab.wait_for_answer():
        field.fill(str(value))
    if name == "lr":
        expected = run_ravine(lr=value)[0]
    else:
        from rmsprop import Rule

        more = {"momentum": {"buffer": "unit"}, "weight_decay": {"weight_decay_mode": "l2"}}.get(name, {})
        expected = run_ravine(Rule(**{name: value}, **more))[0]
    assert lab.get_points(0) == expected.ravel().tolist()


def test_a_card_stays_open_when_it_is_rebuilt(lab):
    card = open_fields(lab)
    lab.page.wait_for_timeout(100)
    lab.page.evaluate("() => __lab.app.emit('theme')")
    card.locator('input[type=number][data-name="weight_decay"]').fill("0.1")
    with lab.wait_for_answer():
        card.locator('select[data-name="eps_mode"]').select_option("outside")
    assert card.locator(".more").evaluate("each => each.open")


@pytest.mark.parametrize("name", ["lr", "rho", "eps", "momentum", "weight_decay"])
def test_a_slider_moves_by_key_and_changes_the_run(lab, name):
    before = lab.get_points(0)
    slider = open_fields(lab).locator(f'input[type=range][data-name="{name}"]')
    slider.focus()
    with lab.wait_for_answer():
        for _ in range(60):
            lab.page.keyboard.press("ArrowRight")
    lab.wait_until(f"JSON.stringify(Array.from(__lab.app.result.runs[0].x)) !== '{json.dumps(before)}'")
    assert lab.get("__lab.app.step") == 20


@pytest.mark.parametrize(
    ("name", "value", "changes"),
    [("eps_mode", "outside", {}), ("init", "ones", {}), ("buffer", "unit", {}), ("weight_decay_mode", "decoupled", {})],
)
def test_a_list_changes_the_rule(lab, name, value, changes):
    with lab.wait_for_answer():
        open_fields(lab).locator(f'select[data-name="{name}"]').select_option(value)
    assert lab.get(f"__lab.app.result.runs[0].rule.{name}") == value


@pytest.mark.parametrize("name", ["centered", "bias_correction"])
def test_a_switch_changes_the_rule(lab, name):
    with lab.wait_for_answer():
        open_fields(lab).locator(f'input[data-name="{name}"]').check()
    assert lab.get(f"__lab.app.result.runs[0].rule.{name}") is True


@pytest.mark.parametrize("name", ["torch", "tensorflow1", "keras3", "optax", "hinton", "dqn"])
def test_a_dialect_has_its_rule(lab, name):
    with lab.wait_for_answer():
        lab.page.locator('select[data-name="dialect"]').first.select_option(name)
    assert lab.get_points(0) == run_ravine(dialects.get(name).resolve())[0].ravel().tolist()


def test_an_option_that_a_dialect_does_not_have_shows_a_message(lab):
    lab.expects_error = True
    with lab.wait_for_answer():
        lab.page.locator('select[data-name="dialect"]').first.select_option("hinton")
    with lab.wait_for_answer():
        open_fields(lab).locator('input[type=number][data-name="momentum"]').fill("0.5")
    assert "hinton" in lab.page.inner_text("#message")
    with lab.wait_for_answer():
        lab.page.locator('select[data-name="dialect"]').first.select_option("")
    assert lab.page.locator("#message").is_hidden()


def test_optimizers_can_be_added_duplicated_and_removed(lab):
    page = lab.page
    with lab.wait_for_answer():
        page.select_option("#add", "nesterov")
    assert lab.get("__lab.app.result.runs.map(r => r.optimizer)")[-1] == "nesterov"
    page.locator(".card").first.locator("summary").first.click()
    with lab.wait_for_answer():
        page.locator(".card").first.get_by_role("button", name="Duplicate").click()
    names = [text.split("\n")[0] for text in page.locator(".card > summary").all_inner_texts()]
    assert names[:2] == ["RMSprop 1", "RMSprop 2"]
    with lab.wait_for_answer():
        page.get_by_role("button", name="Remove RMSprop 2").click()
    assert lab.get("__lab.app.result.runs.length") == 5


# ---- the scene -------------------------------------------------------------------------------------------------------


def test_start_steps_noise_and_seed_change_the_run(lab):
    page = lab.page
    with lab.wait_for_answer():
        page.locator('[data-start="0"]').fill("3")
    assert lab.get_points(0)[:2] == [3.0, -2.0]
    with lab.wait_for_answer():
        page.locator('input[type=number][data-name="steps"]').fill("33")
    assert lab.get("__lab.app.result.runs[0].steps") == 33
    with lab.wait_for_answer():
        page.locator('select[data-name="noise"]').select_option("gauss")
    first = lab.get_points(0)
    with lab.wait_for_answer():
        page.locator('[data-name="seed"]').fill("5")
    assert lab.get_points(0) != first
    with lab.wait_for_answer():
        page.locator('[data-name="seed"]').fill("0")
    assert lab.get_points(0) == first


def test_a_click_on_the_map_moves_the_start(lab):
    box = lab.page.locator("#contour").bounding_box()
    with lab.wait_for_answer():
        lab.page.mouse.click(box["x"] + box["width"] * 0.75, box["y"] + box["height"] * 0.25)
    x, y = lab.get_points(0)[:2]
    assert x == pytest.approx(3.0, abs=0.1)
    # The ravine fills the width; a unit of y is as long as one of x.
    assert y == pytest.approx(0.25 * box["height"] * 12 / box["width"], abs=0.1)


def test_keys_move_the_start_and_zoom_the_map(lab):
    lab.page.locator("#contour").focus()
    with lab.wait_for_answer():
        lab.page.keyboard.press("Shift+ArrowRight")
    assert lab.get_points(0)[0] == pytest.approx(-3.8)
    with lab.wait_for_answer():
        lab.page.keyboard.press("-")
    assert lab.get("__lab.app.state.domain[0][0]") < -6


def test_keys_turn_the_surface(lab):
    before = lab.page.locator("#surface").screenshot()
    lab.page.locator("#surface").focus()
    lab.page.keyboard.press("ArrowRight")
    lab.take_new_screenshot("#surface", before)
    assert lab.get("__lab.app.step") == 20


@pytest.mark.parametrize("name", landscapes.names(variables=2))
def test_every_surface_can_be_chosen(lab, name):
    if name != "ravine":
        with lab.wait_for_answer():
            lab.page.select_option("#scene", name)
    scene = landscapes.get(name)
    assert lab.page.input_value("#function") == scene.text
    assert lab.page.inner_text("#teaches") == scene.teaches
    assert lab.get_points(0)[:2] == list(scene.start)


def test_a_typed_function_runs_and_an_error_shows_its_column(lab):
    with lab.wait_for_answer():
        lab.page.fill("#function", "x^4 + y^2 + x")
    assert lab.get("__lab.app.result.runs[0].f[0]") == expression.parse("x^4 + y^2 + x")([-5.0, -2.0])
    lab.expects_error = True
    with lab.wait_for_answer():
        lab.page.fill("#function", "x^2 + sine(y)")
    assert lab.page.get_attribute("#function", "aria-invalid") == "true"
    assert "did you mean 'sin'" in lab.page.inner_text("#function-error")
    # The part before the caret is invisible: inner_text would not return it.
    assert lab.get("document.querySelector('#function-error .before').textContent") == "x^2 + "
    with lab.wait_for_answer():
        lab.page.fill("#function", "x^2 + sin(y)")
    assert lab.page.get_attribute("#function", "aria-invalid") == "false"
    assert lab.page.inner_text("#function-error") == ""
