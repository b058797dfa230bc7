"""The interface that each layout's module has, and the options of its functions.

LIBRARY: str                                   the package that reads the files; "" for NumPy alone
ROOM: int                                      bytes of memory that this package needs beside the files
recognize(path, head) -> bool                  whether a file with these first bytes, or a folder, has the layout
read(path, options) -> Snapshot
write(path, snapshot, format, *, like, options)
"""

from __future__ import annotations

import os
from typing import NamedTuple

__all__ = ["NO_OPTIONS", "ROOM", "STACKS", "Options"]

ROOM = 2**27
"""Bytes of memory for what NumPy and small packages need beside the file."""
STACKS = 2**25 * (os.cpu_count() or 1)
"""Bytes for the stacks of threads, of which large packages start some for each core."""


class Options(NamedTuple):
    """What a file may leave open.

    Attributes:
        slots: What its arrays are, if they have no names.
        schedule: Whether the learning rate is a schedule.
        at: Which of several optimizers.
    """

    slots: tuple[str, ...] | None = None
    schedule: bool | None = None
    at: str | None = None


NO_OPTIONS = Options()
