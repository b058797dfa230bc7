"""What a watch leaves in its folder: lines, event files, runs one after the other; and what a folder may do to it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rmsprop.doctor import Look, read, watch, writers
from rmsprop.errors import FileError, InputError, MissingDependency, RMSpropWarning

torch = pytest.importorskip("torch", reason="torch is not installed")

from torch_helpers import TorchRMSprop as Host  # noqa: E402
from torch_helpers import list_watched_steps as steps_looked_at  # noqa: E402
from torch_helpers import make_params as parameters  # noqa: E402
from torch_helpers import train  # noqa: E402


def watched(folder, steps=3, **options):
    optimizer = Host(parameters([(3,), (2, 2)]), lr=1e-3)
    with watch(optimizer, every=1, to=folder, budget=None, **options) as watching:
        train(optimizer, steps)
    return watching


def test_each_line_is_one_look_at_one_tensor(tmp_path):
    watching = watched(tmp_path / "deep" / "x", tensorboard=False)
    lines = (tmp_path / "deep" / "x" / "doctor.jsonl").read_text().splitlines()
    assert [(json.loads(line)["step"], json.loads(line)["tensor"]) for line in lines] == [
        (1, "0"), (1, "1"), (2, "0"), (2, "1"), (3, "0"), (3, "1"),
    ]  # fmt: skip
    assert Look.from_json(lines[-1]) == watching.looks["1"]


def test_event_files_hold_what_was_seen(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    watching = watched(tmp_path, tensorboard=True)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    ratios = events.Scalars("update_to_weight/1")
    assert [event.step for event in ratios] == [1, 2, 3]
    assert ratios[-1].value == pytest.approx(watching.looks["1"].update_to_weight, rel=1e-6)
    page = (Path(__file__).parents[2] / "docs" / "use" / "doctor.md").read_text(encoding="utf-8")
    for tag in events.Tags()["scalars"]:
        assert re.fullmatch(r"[a-z_]+(/quantile_0\.\d+)?/[01]", tag)
        assert f"`{tag.partition('/')[0]}/" in page
    assert "effective_lr/quantile_0.5/0" in events.Tags()["scalars"]


def test_a_finding_is_a_text_of_tensorboard(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (param,) = parameters([(3,)])
    optimizer = Host([param], lr=0.01, alpha=0.999)
    names = [("a layer", param)]
    with watch(optimizer, every=1, to=tmp_path, budget=None, tensorboard=True, names=names) as watching:
        train(optimizer, 2)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    (event,) = events.Tensors("start/a_layer/text_summary")
    assert event.step == 1
    assert event.tensor_proto.string_val[0].decode() == str(watching.findings[0])


def test_a_second_training_in_one_folder_is_a_run_of_its_own(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    for steps in (3, 2):
        watched(tmp_path, steps=steps, tensorboard=True)
    assert [look.run for look in read(tmp_path)] == [1] * 6 + [2] * 4
    assert [look.step for look in read(tmp_path, run=-1)] == [1, 1, 2, 2]
    assert len(read(tmp_path, run=1)) == 6
    with pytest.raises(InputError, match=r"run=3, expected one of \[1, 2\]"):
        read(tmp_path, run=3)
    assert len(list(tmp_path.glob("events*"))) == 1
    assert len(list((tmp_path / "run2").glob("events*"))) == 1


def test_a_training_after_a_killed_one_leaves_no_line_that_cannot_be_read(tmp_path):
    watched(tmp_path, tensorboard=False)
    file = tmp_path / writers.LINES
    file.write_bytes(file.read_bytes()[:-20])
    watched(tmp_path, steps=1, tensorboard=False)
    assert [look.run for look in read(tmp_path)] == [1] * 5 + [2] * 2


def test_lines_of_before_runs_had_numbers_are_run_1(tmp_path):
    watched(tmp_path, steps=1, tensorboard=False)
    file = tmp_path / writers.LINES
    new = ("run", "not_finite", "eps_root", "coming_rows", "start_lr")
    old = [{k: v for k, v in json.loads(line).items() if k not in new} for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(line) + "\n" for line in old))
    assert len(read(tmp_path, run=1)) == 2
    watched(tmp_path, steps=1, tensorboard=False)
    assert [look.run for look in read(tmp_path)] == [1, 1, 2, 2]


def without_tensorboard(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)


def test_without_tensorboard_the_lines_are_written_and_the_extra_is_named(tmp_path, monkeypatch):
    without_tensorboard(monkeypatch)
    with pytest.warns(RMSpropWarning, match=r'pip install "rmsprop\[doctor\]"; the lines of JSON are written'):
        watched(tmp_path)
    assert steps_looked_at(tmp_path) == [1, 2, 3]


def test_event_files_that_were_asked_for_need_the_package(tmp_path, monkeypatch):
    without_tensorboard(monkeypatch)
    with pytest.raises(MissingDependency, match="tensorboard is needed for event files"):
        watched(tmp_path, tensorboard=True)


def test_a_folder_that_cannot_be_written_is_said_and_the_training_goes_on(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.warns(RMSpropWarning, match="no more looks are written there, the training goes on"):
        watching = watched(tmp_path / "file" / "x", tensorboard=False)
    assert {look.step for look in watching.looks.values()} == {3}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_is_said_and_the_training_goes_on(tmp_path):
    (tmp_path / writers.LINES).symlink_to("/dev/full")
    with pytest.warns(RMSpropWarning, match="No space left on device; no more looks are written"):
        watching = watched(tmp_path, tensorboard=False)
    assert {look.step for look in watching.looks.values()} == {3}


def test_a_disk_that_fills_up_within_a_look_leaves_no_half_line(tmp_path):
    class Short:
        def __init__(self, file):
            self.file, self.left = file, 100

        def write(self, block):
            done = self.file.write(block[: self.left])
            self.left -= done
            return done

        def __getattr__(self, name):
            return getattr(self.file, name)

    written = writers.Writers(tmp_path, tensorboard=False)
    written._file = Short(written._file)
    look = Look(tensor="w", shape=(2,), dtype="float32", step=1, lr=0.1, rule={})
    with pytest.warns(RMSpropWarning, match="No space left"):
        written.write([look, look], [])
    assert (tmp_path / writers.LINES).read_bytes() == b""


def test_the_last_half_line_of_a_killed_run_is_left_out_and_others_are_refused(tmp_path):
    watched(tmp_path, tensorboard=False)
    file = tmp_path / writers.LINES
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    assert len(read(tmp_path)) == 5
    file.write_bytes(b"{}\n" + whole)
    with pytest.raises(FileError, match="line 1: not a look"):
        read(tmp_path)
    file.write_bytes(b"")
    with pytest.raises(FileError, match="no look in it yet"):
        read(tmp_path)
    with pytest.raises(FileError, match=r"expected the doctor\.jsonl"):
        read(tmp_path / "nothing")


# ---- the example -----------------------------------------------------------------------------------------------------


def test_the_example_leaps_and_calms_down_as_advised(tmp_path):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    script = Path(__file__).parents[2] / "examples" / "doctor.py"
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    highest, calm = (float(number) for number in re.findall(r": (?:.*climbed to )?(\d+\.\d)$", done.stdout, re.M))
    assert calm < 3.0 < highest  # ln 10 = 2.3 is knowing nothing
    assert "first steps of up to 38.9 x lr (at step 18)" in done.stdout
    assert "findings of a start: 0" in done.stdout
    assert steps_looked_at(tmp_path)[:2] == [1, 18]
