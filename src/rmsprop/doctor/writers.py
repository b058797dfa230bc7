"""The files of a watch: a line of JSON for each sample of a tensor, and TensorBoard's event files.

A folder may hold several trainings, one after another: a watch that finds lines there is a run of its own, with the
next number in its lines and event files in `run2`, `run3`, ...

If the disk fills up or the folder cannot be written, a warning is logged once and training continues.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rmsprop._files import check_regular
from rmsprop.doctor.findings import Finding
from rmsprop.doctor.sample import QUANTILES, Sample
from rmsprop.errors import FileError, InputError, InputTypeError, MissingDependency, RMSpropWarning

__all__ = ["LINES", "Writers", "read"]

LINES = "doctor.jsonl"
TAIL = 2**16
"""Bytes at the end of a file that hold its last line; a line has under 2000."""
FLUSH_S = 10
"""Seconds between TensorBoard's writes, in a thread of its own; waiting for them would cost as much as the sample."""
CHARTED = (
    "update_to_weight", "decoupling", "root_mean_sq", "step_over_lr", "eps_share", "stalled_share", "collapsed_share"
)  # fmt: skip
"""The fields of a sample that TensorBoard shows, under their names."""


class Writers:
    """The files of one watch; `folder` None: there are none.

    Raises:
        InputTypeError: `folder` is not a path.
        MissingDependency: `tensorboard` is True and the package is not installed.
    """

    def __init__(self, folder: str | Path | None, *, tensorboard: bool | None = None) -> None:
        if folder is not None and not isinstance(folder, (str, os.PathLike)):
            raise InputTypeError(f"to={folder!r}: a {type(folder).__name__}, expected a folder or None")
        self.folder = None if folder is None else Path(folder)
        self.run = 0
        self._lines: Any = None
        self._events: Any = None
        self._writer_class = None if folder is None or tensorboard is False else _import_tensorboard(tensorboard)
        self.open()

    def open(self, *, new_run: bool = False) -> None:
        """Open the files, or open them again after `close` to continue the same run or, with `new_run`, the next."""
        if new_run:
            self.close()
            self.run = 0
        if self.folder is None or self._lines is not None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            last = _repair(self.folder / LINES)
            self.run = self.run or last + 1
            self._lines = open(self.folder / LINES, "ab")  # noqa: SIM115 (closed by `close`)
            if self._writer_class is not None:
                events = self.folder if self.run == 1 else self.folder / f"run{self.run}"
                self._events = self._writer_class(str(events), flush_secs=FLUSH_S)
        except OSError as error:
            self._stop(error)

    def write(self, samples: Sequence[Sample], findings: Sequence[Finding]) -> None:
        """Write the samples of one step to the disk, and hand events to TensorBoard."""
        if self._lines is None:
            return
        try:
            for sample in samples:
                self._lines.write(dataclasses.replace(sample, run=self.run).to_json().encode() + b"\n")
            self._lines.flush()
            if self._events is not None:
                self._write_events(samples, findings)
        except OSError as error:
            self._stop(error)

    def _write_events(self, samples: Sequence[Sample], findings: Sequence[Finding]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]

        # One event for all curves of a tensor: SummaryWriter.add_scalar takes an event, and a queue, for each.
        for sample in samples:
            values = {name: getattr(sample, name) for name in CHARTED}
            values |= {f"effective_lr/quantile_{q:g}": x for q, x in zip(QUANTILES, sample.effective_lr or ())}
            shown = {_tag(name, sample.tensor): x for name, x in values.items() if x is not None}
            summary = Summary(value=[Summary.Value(tag=tag, simple_value=x) for tag, x in shown.items()])
            self._events.file_writer.add_summary(summary, sample.step)
        for finding in findings:
            self._events.add_text(_tag(finding.kind, finding.tensor), str(finding), finding.step)

    def _stop(self, error: OSError) -> None:
        text = f"{self.folder}: {error.strerror or error}; no more samples are written there, training continues"
        warnings.warn(text, RMSpropWarning, stacklevel=4)
        self.close()

    def close(self) -> None:
        """Close the files."""
        lines, events, self._lines, self._events = self._lines, self._events, None, None
        for file in (lines, events):
            if file is not None:
                with contextlib.suppress(OSError):  # which `write` has warned of
                    file.close()


def _tag(name: str, tensor: str) -> str:
    return f"{name}/{tensor}".replace(" ", "_")


def _repair(file: Path) -> int:
    """Cut off the partial line that a killed run left at the end; return the number of the last run, 0 if none."""
    if not file.is_file():  # also /dev/full, which has no end
        return 0
    with open(file, "r+b") as handle:
        begin = max(handle.seek(0, os.SEEK_END) - TAIL, 0)
        handle.seek(begin)
        lines, newline, _ = handle.read().rpartition(b"\n")
        if newline or not begin:
            handle.truncate(begin + len(lines + newline))
    try:
        return Sample.from_json(lines.rpartition(b"\n")[2].decode()).run
    except ValueError:
        return 1 if lines else 0


def _import_tensorboard(required: bool | None) -> Any:
    """Return torch.utils.tensorboard.SummaryWriter, or warn that a package is missing and return None."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        missing = MissingDependency.of("tensorboard", extra="doctor", purpose="event files")
        if required:
            raise missing from None
        warnings.warn(f"{missing}; the lines of JSON are written", RMSpropWarning, stacklevel=4)
        return None
    return SummaryWriter


def read(path: str | Path, *, run: int | None = None) -> list[Sample]:
    """Read the samples of a watch.

    Args:
        path: Its folder, or the file of JSON lines in it. The last line of a killed run may be partial: it is left out.
        run: The number of one training, from 1; -1: the latest. Default: all, one after another.

    Raises:
        FileError: There is none, or a line is not a sample; with the line's number.
        InputError: There is no such run.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for lr in (0.1, 0.2):
        ...         writers = Writers(folder, tensorboard=False)
        ...         writers.write([Sample(tensor="w", shape=(2,), dtype="float32", step=1, lr=lr, rule={})], [])
        ...         writers.close()
        ...     [sample.lr for sample in read(folder)], [sample.lr for sample in read(folder, run=-1)]
        ([0.1, 0.2], [0.2])
    """
    path = Path(path)
    file = path / LINES if path.is_dir() else path
    try:
        check_regular(file)
    except FileError as error:
        raise FileError(f"{error}; expected the {LINES} that rmsprop.doctor.watch writes") from error
    samples = []
    *lines, last = file.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        try:
            samples.append(Sample.from_json(line.decode()))
        except ValueError as error:
            raise FileError(f"{file}, line {number}: {error}; expected a sample of rmsprop.doctor.watch") from error
    with contextlib.suppress(ValueError):
        samples.append(Sample.from_json(last.decode()))
    if not samples:
        raise FileError(f"{file}: it has no sample yet")
    runs = sorted({sample.run for sample in samples})
    if run is not None and run not in (-1, *runs):
        raise InputError(f"run={run!r}, expected one of {runs} or -1 for the latest")
    return [sample for sample in samples if run is None or sample.run == (runs[-1] if run == -1 else run)]
