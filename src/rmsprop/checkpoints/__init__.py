"""Convert optimizer state between frameworks: read any layout, write any other.

    from rmsprop import checkpoints
    snapshot = checkpoints.read("model.ckpt-1000")                       # what is in it
    checkpoints.convert("model.ckpt-1000", "run.pt", to="torch", names=["net/w", "net/b"])

No file is executed: torch files are read with weights_only, PaddlePaddle's by an unpickler that knows only arrays. The
sizes that a file declares are compared with its own size before memory is allocated. A framework's package is imported
only to read or write its files: in a separate process with limits on time and memory, unless it is loaded already.
"""

from __future__ import annotations

from rmsprop.checkpoints._convert import Report, convert, read, write
from rmsprop.checkpoints._layouts import FORMATS
from rmsprop.checkpoints._snapshot import Group, Parameter, Snapshot

__all__ = ["FORMATS", "Group", "Parameter", "Report", "Snapshot", "convert", "read", "write"]
