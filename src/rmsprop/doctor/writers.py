"""What a watch leaves behind: a line of JSON for each look and tensor, and TensorBoard's event files.

A folder may hold several trainings, one after another: each watch that finds lines there is a run of its own, with the
next number in its lines and event files in `run2`, `run3`, ...

A disk that is full or a folder that cannot be written is said once, as a warning; the training goes on.
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
from rmsprop.doctor.look import QUANTILES, Look
from rmsprop.errors import FileError, InputError, InputTypeError, MissingDependency, RMSpropWarning

__all__ = ["LINES", "Writers", "read"]

LINES = "doctor.jsonl"
TAIL = 2**16
"""Bytes at the end of a file in which its last whole line is looked for; a line has under 2000."""
FLUSH_S = 10
"""Events go to the disk in a thread of TensorBoard's; waiting for it would cost as much as the look."""
_CHARTED = (
    "update_to_weight", "decoupling", "root_mean_sq", "step_over_lr", "eps_share", "stalled_share", "collapsed_share"
)  # fmt: skip
"""The numbers of a look that are charted, under the names that they have in its line."""


class Writers:
    """The files of one watch.

    Args:
        folder: Where; None: nowhere.
        tensorboard: Whether to write event files; None: if the package is there.

    Attributes:
        run: The number of this training in the folder, from 1.

    Raises:
        InputTypeError: `folder` is no path.
        MissingDependency: `tensorboard` is True and the package is not there.
    """

    def __init__(self, folder: str | Path | None, *, tensorboard: bool | None = None) -> None:
        if folder is not None and not isinstance(folder, (str, os.PathLike)):
            raise InputTypeError(f"to={folder!r}: a {type(folder).__name__}, expected a folder or None")
        self.folder = None if folder is None else Path(folder)
        self.run = 0
        self._file: Any = None
        self._events: Any = None
        self._board = None
        if self.folder is not None:
            if tensorboard is not False:
                self._board = _board(required=tensorboard is True)
            self.open()

    def open(self) -> None:
        """Open the files, or open them again after `close`, to go on in the same run."""
        if self.folder is None or self._file is not None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            last = _mended(self.folder / LINES)
            self.run = self.run or last + 1
            self._file = open(self.folder / LINES, "ab", buffering=0)  # noqa: SIM115 (closed by `close`)
            if self._board is not None:
                events = self.folder if self.run == 1 else self.folder / f"run{self.run}"
                self._events = self._board(str(events), flush_secs=FLUSH_S)
        except OSError as error:
            self._stop(error)

    def new_run(self) -> None:
        """Begin another training: what is written next has the next number."""
        self.close()
        self.run = 0
        self.open()

    def write(self, looks: Sequence[Look], findings: Sequence[Finding]) -> None:
        """Write whole lines, at once, and out of this process's hands; and events."""
        if self._file is None:
            return
        try:
            numbered = looks if self.run == 1 else [dataclasses.replace(look, run=self.run) for look in looks]
            block = b"".join(look.to_json().encode() + b"\n" for look in numbered)
            done = self._file.write(block)
            if done != len(block):  # a disk that filled up half-way: no half line stays
                self._file.truncate(self._file.seek(0, 2) - done)
                raise OSError(28, "No space left on device")
            if self._events is not None:
                self._chart(looks, findings)
        except OSError as error:
            self._stop(error)

    def _chart(self, looks: Sequence[Look], findings: Sequence[Finding]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]

        # One event for a tensor's curves: SummaryWriter.add_scalar takes an event, and a queue, for each.
        for look in looks:
            values = {name: getattr(look, name) for name in _CHARTED}
            if look.effective_lr is not None:
                values |= {f"effective_lr/quantile_{q:g}": x for q, x in zip(QUANTILES, look.effective_lr)}
            charted = [
                Summary.Value(tag=_tag(name, look.tensor), simple_value=x)
                for name, x in values.items()
                if x is not None
            ]
            self._events.file_writer.add_summary(Summary(value=charted), look.step)
        for finding in findings:
            self._events.add_text(_tag(finding.kind, finding.tensor), str(finding), finding.step)

    def _stop(self, error: OSError) -> None:
        reason = error.strerror or str(error)
        warnings.warn(
            f"{self.folder}: {reason}; no more looks are written there, the training goes on",
            RMSpropWarning,
            stacklevel=4,
        )
        self.close()

    def close(self) -> None:
        """Close the files."""
        file, events, self._file, self._events = self._file, self._events, None, None
        for handle in (file, events):
            if handle is not None:
                with contextlib.suppress(OSError):  # said before
                    handle.close()


def _tag(name: str, tensor: str) -> str:
    return f"{name}/{tensor}".replace(" ", "_")


def _mended(file: Path) -> int:
    """Cut off the half line that a killed run left at the end, and return the number of the last run; 0: none."""
    if not file.is_file():  # also /dev/full, which has no end
        return 0
    with open(file, "r+b") as handle:
        size = handle.seek(0, os.SEEK_END)
        start = handle.seek(max(size - TAIL, 0))
        tail = handle.read()
        whole = tail[: tail.rfind(b"\n") + 1]
        if whole or not start:
            handle.truncate(start + len(whole))
    for line in reversed(whole.split(b"\n")):
        if line.strip():
            with contextlib.suppress(ValueError):
                return Look.from_json(line.decode()).run
    return 1 if whole else 0


def _board(*, required: bool) -> Any:
    """Return torch.utils.tensorboard.SummaryWriter; None: a package is missing, which is said."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        missing = MissingDependency.of("tensorboard", extra="doctor", purpose="event files")
        if required:
            raise missing from None
        warnings.warn(f"{missing}; the lines of JSON are written all the same", RMSpropWarning, stacklevel=4)
        return None
    return SummaryWriter


def read(path: str | Path, *, run: int | None = None) -> list[Look]:
    """Read the looks of a watch.

    Args:
        path: Its folder, or the file of JSON lines in it. A last line that is not whole, of a killed run, is left out.
        run: The number of one training, from 1; -1: the latest. Default: all, one after another.

    Raises:
        FileError: There is none, or a line that is no look, by its number.
        InputError: There is no such run.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for lr in (0.1, 0.2):
        ...         writers = Writers(folder, tensorboard=False)
        ...         writers.write([Look(tensor="w", shape=(2,), dtype="float32", step=1, lr=lr, rule={})], [])
        ...         writers.close()
        ...     [look.lr for look in read(folder)], [look.lr for look in read(folder, run=-1)]
        ([0.1, 0.2], [0.2])
    """
    path = Path(path)
    file = path / LINES if path.is_dir() else path
    try:
        check_regular(file)
    except FileError as error:
        raise FileError(f"{error}; expected the {LINES} that rmsprop.doctor.watch writes") from error
    lines = file.read_bytes().split(b"\n")
    looks = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            looks.append(Look.from_json(line.decode()))
        except ValueError as error:
            if number == len(lines):
                break
            raise FileError(f"{file}, line {number}: {error}; expected a look of rmsprop.doctor.watch") from error
    if not looks:
        raise FileError(f"{file}: no look in it yet")
    if run is None:
        return looks
    number = max(look.run for look in looks) if run == -1 else run
    chosen = [look for look in looks if look.run == number]
    if not chosen:
        raise InputError(f"run={run!r}, expected one of {sorted({look.run for look in looks})} or -1 for the latest")
    return chosen
