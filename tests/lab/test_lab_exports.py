"""Promise: exported files can be opened, and have the page's numbers and pictures."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import struct

import pytest
from labpage import Lab
from PIL import Image
from typer.testing import CliRunner

from rmsprop import cli, landscapes

pytestmark = pytest.mark.browser


def export(lab: Lab, kind: str, **settings: int | str) -> bytes:
    """Press the button and return the file."""
    lab.page.click("#export")
    for name, value in settings.items():
        field = lab.page.locator(f"#film-{name}")
        if name == "content":
            field.select_option(value)
        else:
            field.fill(str(value))
    with lab.page.expect_download(timeout=120_000) as waiting:
        lab.page.click(f"#export-{kind}")
    content = waiting.value.path().read_bytes()
    lab.page.keyboard.press("Escape")
    return content


@pytest.mark.parametrize("content", ["map", "surface", "both"])
def test_a_png_has_twice_the_given_size(lab, content):
    image = Image.open(io.BytesIO(export(lab, "png", width=400, height=300, content=content)))
    assert image.format == "PNG"
    assert image.size == (800, 600)
    assert len(image.convert("RGB").getcolors(1 << 20)) > 200


def test_a_gif_has_its_frames_size_and_duration(lab):
    image = Image.open(io.BytesIO(export(lab, "gif", width=320, height=240, seconds=2, fps=20)))
    assert image.format == "GIF"
    assert image.size == (320, 240)
    assert image.n_frames == 40
    assert image.info["duration"] == 50
    assert image.info["loop"] == 0
    first = image.convert("RGB").copy()
    image.seek(39)
    assert image.convert("RGB").tobytes() != first.tobytes()


def read_boxes(content: bytes) -> dict[bytes, bytes]:
    """Return the boxes of an MP4 file, nested ones too; the last of those with the same name."""
    found, at = {}, 0
    while at + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, at)
        body = content[at + 8 : at + size]
        found[kind] = body
        if kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
            found |= read_boxes(body)
        at += max(size, 8)
    return found


def test_an_mp4_has_its_frames_and_size(lab):
    if not lab.get("'VideoEncoder' in window"):
        pytest.skip("this Chromium has no video encoder")
    found = read_boxes(export(lab, "mp4", width=321, height=240, seconds=1, fps=24))
    assert found[b"ftyp"]
    _, _, samples = struct.unpack_from(">III", found[b"stsz"])
    assert samples == 24
    width, height = struct.unpack(">II", found[b"tkhd"][-8:])
    assert (width >> 16, height >> 16) == (320, 240)


def test_the_csv_has_all_digits_of_all_runs(lab):
    rows = list(csv.DictReader(export(lab, "csv").decode().splitlines()))
    assert len(rows) == 4 * 21
    for run in range(4):
        mine = rows[21 * run : 21 * (run + 1)]
        assert [float(row[axis]) for row in mine for axis in "xy"] == lab.get_points(run)
    assert rows[20]["grad_x"] == ""


def test_the_json_has_all_digits_and_a_script_that_runs(lab):
    found = json.loads(export(lab, "json"))
    assert [v for point in found["runs"][0]["x"] for v in point] == lab.get_points(0)
    assert found["function"] == "0.1*x^2 + 2*y^2"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(found["python"], "exported", "exec"), {})
    assert str(found["runs"][0]["x"][-1]) in printed.getvalue()


def test_the_shared_script_computes_the_page_numbers(lab):
    lab.page.click("#share")
    script = lab.page.input_value("#python-text")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(script, "copied", "exec"), {})
    ends = [line.split(" ", 2)[2] for line in printed.getvalue().splitlines()]
    for run, end in enumerate(ends):
        assert end.startswith(str(lab.get_points(run)[-2:]))
    assert lab.page.input_value("#command-text").startswith("rmsprop compare")


def test_an_exported_page_is_a_live_lab_without_a_server(lab, browser, tmp_path):
    lab.get("__lab.seek(6)")
    file = tmp_path / "saved.html"
    file.write_bytes(export(lab, "html"))
    values, points = lab.get_losses(), lab.get_points(0)
    saved = Lab(browser, file.as_uri(), offline=True).open()
    assert saved.get("__lab.app.step") == 6
    assert saved.get_losses() == values
    assert saved.get_points(0) == points
    with saved.wait_for_answer():
        saved.page.locator("#function").fill("x^2 + 3y^2")
    assert saved.get_points(0) != points
    with saved.wait_for_answer():
        saved.page.select_option("#scene", "himmelblau")
    saved.page.click("#tab-heat")
    saved.wait_until("/runs of/.test(document.querySelector('#panel-heat .hint').textContent)")
    again = tmp_path / "again.html"
    again.write_bytes(export(saved, "html"))
    other = Lab(browser, again.as_uri(), offline=True).open()
    assert other.page.input_value("#function") == landscapes.get("himmelblau").text
    assert other.get_points(0) == saved.get_points(0)
    other.close()
    saved.close()


def test_the_command_writes_the_page_with_the_state_of_a_link(lab, browser, tmp_path):
    with lab.wait_for_answer():
        lab.page.select_option("#scene", "beale")
    lab.page.click("#share")
    words = ["lab", "--export", str(tmp_path / "lab.html"), "--link", lab.page.input_value("#link-text")]
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 0, done.output
    written = Lab(browser, (tmp_path / "lab.html").as_uri(), offline=True).open()
    assert written.get_points(0) == lab.get_points(0)
    written.close()


def test_a_diverging_run_is_exported_as_valid_json(lab):
    with lab.wait_for_answer():
        lab.page.locator(".card > summary").nth(2).click()
        lab.page.locator('.card[data-run="2"] input[type=number][data-name="lr"]').fill("1e6")
        lab.page.locator('input[type=number][data-name="steps"]').fill("200")
    lab.wait_until("__lab.app.result.runs[2].broken !== null")
    found = json.loads(export(lab, "json"))
    assert found["runs"][2]["f"][-1] in ("inf", "nan")
