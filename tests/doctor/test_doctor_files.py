"""The folder of a watch: its lines, its event files, several runs, and what goes wrong with folders and disks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from trainings import TorchRMSprop, make_params, train, watch

from rmsprop.doctor import Sample, read
from rmsprop.errors import FileError, InputError, MissingDependency, RMSpropWarning

ROOT = Path(__file__).parents[2]


def watch_training(folder, steps=3, *, names=None, tensorboard=False, **options):
    optimizer = TorchRMSprop(make_params((3,), (2, 2)), **{"lr": 1e-3, **options})
    named = names and zip(names, optimizer.param_groups[0]["params"])
    with watch(optimizer, every=1, to=folder, budget=None, tensorboard=tensorboard, names=named) as watcher:
        train(optimizer, steps)
    return watcher


@pytest.fixture
def read_events():
    module = "tensorboard.backend.event_processing.event_accumulator"
    accumulator = pytest.importorskip(module, reason="tensorboard is not installed")

    def read_folder(folder):
        events = accumulator.EventAccumulator(str(folder))
        events.Reload()
        return events

    return read_folder


def test_each_line_is_one_sample_of_one_tensor(tmp_path):
    watcher = watch_training(tmp_path / "deep" / "x")
    lines = (tmp_path / "deep" / "x" / "doctor.jsonl").read_text().splitlines()
    found = [(sample["step"], sample["tensor"]) for sample in map(json.loads, lines)]
    assert found == [(step, tensor) for step in (1, 2, 3) for tensor in ("0", "1")]
    assert Sample.from_json(lines[-1]) == watcher.samples["1"]


def test_event_files_hold_the_samples_and_the_findings(tmp_path, read_events):
    options = {"lr": 0.01, "alpha": 0.999, "names": ("a layer", "b")}
    watcher = watch_training(tmp_path, tensorboard=True, **options)
    events = read_events(tmp_path)
    ratios = events.Scalars("update_to_weight/b")
    assert [event.step for event in ratios] == [1, 2, 3]
    assert ratios[-1].value == pytest.approx(watcher.samples["b"].update_to_weight, rel=1e-6)
    page = (ROOT / "docs" / "use" / "doctor.md").read_text(encoding="utf-8")
    tags = events.Tags()["scalars"]
    assert "effective_lr/quantile_0.5/a_layer" in tags
    assert all(f"`{tag.partition('/')[0]}/" in page for tag in tags)
    (event,) = events.Tensors("start/a_layer/text_summary")
    assert event.tensor_proto.string_val[0].decode() == str(watcher.findings[0])


def test_a_second_training_in_one_folder_is_a_run_of_its_own(tmp_path, read_events):
    for steps in (3, 2):
        watch_training(tmp_path, steps=steps, tensorboard=True)
    assert [sample.run for sample in read(tmp_path)] == [1] * 6 + [2] * 4
    assert [sample.step for sample in read(tmp_path, run=-1)] == [1, 1, 2, 2]
    assert len(read(tmp_path, run=1)) == 6
    with pytest.raises(InputError, match=r"run=3, expected one of \[1, 2\]"):
        read(tmp_path, run=3)
    for folder, steps in ((tmp_path, 3), (tmp_path / "run2", 2)):
        assert len(read_events(folder).Scalars("update_to_weight/1")) == steps


def test_the_partial_last_line_of_a_killed_run_is_left_out_and_cut_off_by_the_next(tmp_path):
    watch_training(tmp_path)
    file = tmp_path / "doctor.jsonl"
    file.write_bytes(file.read_bytes()[:-20])
    assert len(read(tmp_path)) == 5
    watch_training(tmp_path, steps=1)
    assert [sample.run for sample in read(tmp_path)] == [1] * 5 + [2] * 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it has no sample yet"),
        (b"{}\n", "line 1: not a sample"),
        (b"[]\n", "line 1: not a sample"),
        (b"hello\n", "line 1: Expecting value"),
        (b"\xff\n", "line 1: .*utf-8"),
        (None, r"no such file; expected the doctor\.jsonl"),
    ],
)
def test_a_file_without_samples_raises(content, message, tmp_path):
    if content is not None:
        (tmp_path / "doctor.jsonl").write_bytes(content)
    with pytest.raises(FileError, match=message):
        read(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [{"step": "x"}, {"rule": 5}, {"rule": {"rho": 7}}, {"rule": {"rho": [1]}}, {"lr": "a"}, {"rows": None},
     {"not_finite": 1}, {"shape": "ab"}, {"shape": 3}, {"effective_lr": [1.0]}, {"run": True}],
    ids=str,
)  # fmt: skip
def test_a_damaged_line_raises_with_its_number(damage, tmp_path):
    watch_training(tmp_path, steps=1)
    file = tmp_path / "doctor.jsonl"
    first, second = file.read_text().splitlines()
    file.write_text(first + "\n" + json.dumps({**json.loads(second), **damage}) + "\n")
    with pytest.raises(FileError, match="line 2: "):
        read(tmp_path)


def test_without_tensorboard_the_lines_are_written_and_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.warns(RMSpropWarning, match=r'pip install "rmsprop\[doctor\]"; the lines of JSON are written'):
        watch_training(tmp_path, tensorboard=None)
    assert len(read(tmp_path)) == 6
    with pytest.raises(MissingDependency, match="tensorboard is needed for event files"):
        watch_training(tmp_path, tensorboard=True)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_is_warned_of_once_and_training_continues(tmp_path):
    (tmp_path / "doctor.jsonl").symlink_to("/dev/full")
    with pytest.warns(RMSpropWarning) as caught:
        watcher = watch_training(tmp_path)
    (warning,) = caught
    text = f"{tmp_path}: No space left on device; no more samples are written there, training continues"
    assert str(warning.message) == text
    assert {sample.step for sample in watcher.samples.values()} == {3}


def test_a_folder_that_cannot_be_written_is_warned_of_and_training_continues(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.warns(RMSpropWarning, match="training continues"):
        watcher = watch_training(tmp_path / "file" / "x")
    assert {sample.step for sample in watcher.samples.values()} == {3}


@pytest.mark.slow
def test_the_example_finds_a_harmful_start_and_cures_it_as_advised(tmp_path, steps_in):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    script = ROOT / "examples" / "doctor.py"
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    highest, cured = (float(number) for number in re.findall(r": (?:.*rose to )?(\d+\.\d)$", done.stdout, re.M))
    assert cured < 3.0 < highest  # ln 10 = 2.3: the loss of a guess
    assert "first steps of up to 38.9 x lr (at step 18)" in done.stdout
    assert "findings of a start: 0" in done.stdout
    assert steps_in(tmp_path)[:2] == [1, 18]
