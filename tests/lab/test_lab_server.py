"""Promise: the lab's server sends one page, compressed, to this machine's browsers alone."""

from __future__ import annotations

import gzip

import pytest
from serving import run_server, send

PAGE = "<title>a page</title>" + "<!-- filler -->" * 100


@pytest.fixture(scope="module")
def port():
    with run_server(PAGE) as number:
        yield number


@pytest.fixture(scope="module")
def open_port():
    with run_server(PAGE, any_address=True) as number:
        yield number


def test_the_page_is_sent_compressed_to_whom_can_read_that(port):
    status, headers, content = send(port, "/", [("Accept-Encoding", "gzip")])
    assert (status, headers["content-encoding"]) == (200, "gzip")
    assert gzip.decompress(content).decode() == PAGE
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert send(port, "/")[2].decode() == PAGE


BAD_HOSTS = [
    "evil.example",
    "evil.example:8765",
    "127.0.0.1.evil.example",
    "[::1].evil.com",
    "[::1]evil.com:80",
    "[::2]:80",
    "localhost:80:80",
    "localhost:",
    "127.0.0.1:123456",
    "user@localhost",
    "",
    "[::1",
]


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_another_host_name_is_rejected(port, open_port, host):
    assert send(port, "/", [("Host", host)])[0] == 403
    if host != "[::2]:80":  # an address, which nobody can point elsewhere
        assert send(open_port, "/", [("Host", host)])[0] == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST:99", "[::1]:8765"])
def test_names_of_this_machine_are_accepted(port, host):
    assert send(port, "/", [("Host", host)])[0] == 200


@pytest.mark.parametrize("host", ["192.168.1.7:8765", "[fe80::1]:8765", "10.0.0.1"])
def test_beyond_loopback_a_visitor_by_address_is_served(port, open_port, host):
    assert send(open_port, "/", [("Host", host)])[0] == 200
    assert send(port, "/", [("Host", host)])[0] == 403


def test_two_host_headers_are_rejected(port):
    assert send(port, "/", [("Host", "localhost"), ("Host", "evil.example")])[0] in (400, 403)


@pytest.mark.parametrize("path", ["/", "/nothing", "/api/run", "/../server.py", "/%2e%2e/server.py", "//etc/passwd"])
@pytest.mark.parametrize("host", ["localhost", "evil.example"])
def test_every_answer_has_security_headers_and_no_file(port, path, host):
    status, headers, content = send(port, path, [("Host", host)])
    assert status == (403 if host != "localhost" else 200 if path == "/" else 404)
    assert b"import" not in content
    assert headers["content-security-policy"] == "frame-ancestors 'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_sent_to_it(port, method):
    assert send(port, "/", method=method)[0] == 405
