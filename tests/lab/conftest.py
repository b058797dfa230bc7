"""Fixtures of the lab: a server, a browser, an open page."""

import pytest
from labpage import Lab, find_page, open_browser
from serving import run_server


@pytest.fixture(scope="module")
def port():
    with run_server(find_page().read_text("utf-8")) as number:
        yield number


@pytest.fixture(scope="module")
def url(port):
    return f"http://127.0.0.1:{port}/"


@pytest.fixture(scope="module")
def browser():
    find_page()
    with open_browser() as opened:
        yield opened


@pytest.fixture
def lab(browser, url):
    opened = Lab(browser, url).open()
    yield opened
    opened.close()
