"""Promise: a link restores the lab's page; a broken or hostile link shows a message and does no harm."""

from __future__ import annotations

import shlex
from urllib.parse import parse_qs

import pytest
from labpage import Lab

from pages import PAGES, shell_lines
from rmsprop import landscapes

pytestmark = pytest.mark.browser


def test_a_link_restores_everything(lab, browser, url):
    with lab.wait_for_answer():
        lab.page.select_option("#scene", "himmelblau")
    with lab.wait_for_answer():
        lab.page.locator('select[data-name="dialect"]').first.select_option("torch")
    with lab.wait_for_answer():
        lab.page.locator('select[data-name="noise"]').select_option("gauss")
    with lab.wait_for_answer():
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
        assert other.get_points(run) == lab.get_points(run)
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


def test_the_links_of_the_documents_open(browser, url):
    commands = [line for page in PAGES for line in shell_lines(page) if line.text.startswith("rmsprop lab --link")]
    assert len(commands) >= 10
    for command in commands:
        link = shlex.split(command.text)[-1]
        lab = Lab(browser, url).open(link)
        assert lab.page.locator("#message").is_hidden(), command
        assert lab.get("__lab.app.state")["text"] == parse_qs(link.removeprefix("#"))["f"][0]
        lab.close()


def test_numbers_in_a_link_are_bounded(browser, url):
    lab = Lab(browser, url)
    lab.open("#v=1&f=x^2&x=-1e99,1&y=-1,1&start=0,1e300&steps=1e9&run=rmsprop,lr=0.1&t=1e9")
    assert lab.get("__lab.app.state.steps") == 5000
    assert lab.get("__lab.app.state.start[1]") == 1e6
    assert lab.get("__lab.app.state.domain[0][0]") == -1e6
    lab.close()


def test_a_function_in_a_link_is_only_text(browser, url):
    lab = Lab(browser, url)
    lab.page.goto(
        url + "#v=1&f=<img src=x onerror=document.title=1>&x=-1,1&y=-1,1&start=0,0&steps=9&run=rmsprop,lr=0.1"
    )
    lab.wait_until("!!window.__lab && window.__lab.app.answers > 0")
    assert lab.page.title() == "RMSprop lab"
    assert lab.page.locator("img").count() == 0
    lab.close()
