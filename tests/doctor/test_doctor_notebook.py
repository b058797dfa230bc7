"""Promise: a notebook shows what the doctor saw: the findings, a table, a picture; elsewhere it is plain text."""

import sys

import pytest

from rmsprop.doctor import Checkup, History, Sample
from rmsprop.doctor.base import BaseWatch


def make_samples(count, **fields):
    return tuple(
        Sample(
            tensor=f"<layer> {i}", shape=(4, 2), dtype="float32", step=200, lr=0.1, rule={},
            effective_lr=(0.1, 0.2, 0.3, 0.4, 0.5), **fields,
        )
        for i in range(count)
    )  # fmt: skip


def make_checkup(count=2, notes=("lr is a guess",), **fields):
    samples, history = make_samples(count, **fields), History()
    history.add(samples)
    return Checkup(samples=samples, history=history, notes=notes)


def test_a_checkup_is_findings_a_table_and_a_picture():
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    html = make_checkup(update_to_weight=0.5)._repr_html_()
    assert html.index("lr is a guess") < html.index("<li>update: ") < html.index("<table>") < html.index("<img ")
    assert html.count("<tr>") == 3
    assert "&lt;layer&gt; 1" in html
    assert "<layer>" not in html


def test_without_matplotlib_there_is_no_picture(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.style", None)
    html = make_checkup()._repr_html_()
    assert "<table>" in html
    assert "<img" not in html


def test_a_checkup_is_plain_text_too():
    assert repr(make_checkup()) == "2 tensors\nlr is a guess\nhealthy: no findings"
    assert repr(make_checkup(update_to_weight=0.5)).splitlines()[2].startswith("update: <layer> 0, step 200: ")


def test_a_long_table_ends_after_forty_tensors():
    html = make_checkup(45)._repr_html_()
    assert html.count("<tr>") == 41
    assert "and 5 more tensors" in html


def test_a_watch_shows_its_latest_samples():
    watch = BaseWatch(every=1, to=None, budget=None, tensorboard=None)
    assert "nothing to judge" in repr(watch)
    assert "nothing to judge" in watch._repr_html_()
    watch._add(make_samples(1, update_to_weight=0.5))
    assert "<li>update: " in watch._repr_html_()
    assert "update:weight" in watch._repr_html_(), "a watch sees changes"
