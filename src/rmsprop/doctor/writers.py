"""What a watch leaves behind: a line of JSON for each look and tensor, and TensorBoard's event files.

A disk that is full or a folder that cannot be written is said once, as a warning; the training goes on.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rmsprop.doctor.findings import Finding
from rmsprop.doctor.measure import QUANTILES, Look
from rmsprop.errors import FileError, MissingDependency, RMSpropWarning

__all__ = ["LINES", "Writers", "read"]

LINES = "doctor.jsonl"
FLUSH_S = 10
"""Events go to the disk in a thread of TensorBoard's; waiting for it would cost as much as the look."""
_CHARTED = {
    "update_to_weight": "update to weight",
    "decoupling": "grad2 to mean_sq",
    "root_mean_sq": "root of mean_sq",
    "step_over_lr": "largest step in lr",
    "eps_share": "share ruled by eps",
    "stalled_share": "share stalled",
    "collapsed_share": "share collapsed",
}


class Writers:
    """The files of one watch.

    Args:
        folder: Where; None: nowhere.
        tensorboard: Whether to write event files; None: if the package is there.

    Raises:
        MissingDependency: `tensorboard` is True and the package is not there.
    """

    def __init__(self, folder: str | Path | None, *, tensorboard: bool | None = None) -> None:
        self.folder = None if folder is None else Path(folder)
        self._file: Any = None
        self._events: Any = None
        if self.folder is None:
            return
        if tensorboard is not False:
            board = _board(required=tensorboard is True)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = open(self.folder / LINES, "ab", buffering=0)  # noqa: SIM115 (closed by `close`)
            if tensorboard is not False and board is not None:
                self._events = board(str(self.folder), flush_secs=FLUSH_S)
        except OSError as error:
            self._stop(error)

    def write(self, looks: Sequence[Look], findings: Sequence[Finding]) -> None:
        """Write whole lines, at once, and out of this process's hands; and events."""
        if self._file is None:
            return
        try:
            block = b"".join(look.to_json().encode() + b"\n" for look in looks)
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
            values = {name: getattr(look, field) for field, name in _CHARTED.items()}
            if look.effective_lr is not None:
                values |= {f"effective lr, quantile {q:g}": x for q, x in zip(QUANTILES, look.effective_lr)}
            charted = [
                Summary.Value(tag=f"{name}/{look.tensor}", simple_value=x)
                for name, x in values.items()
                if x is not None
            ]
            self._events.file_writer.add_summary(Summary(value=charted), look.step)
        for finding in findings:
            self._events.add_text(f"{finding.kind}/{finding.tensor}", str(finding), finding.step)

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


def read(path: str | Path) -> list[Look]:
    """Read the looks of a watch.

    Args:
        path: Its folder, or the file of JSON lines in it. A last line that is not whole, of a killed run, is left out.

    Raises:
        FileError: There is none, or a line that is no look, by its number.
    """
    path = Path(path)
    file = path / LINES if path.is_dir() else path
    try:
        lines = file.read_bytes().split(b"\n")
    except OSError as error:
        raise FileError(f"{file}: {error.strerror}; expected the {LINES} that rmsprop.doctor.watch writes") from error
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
    return looks
