"""Optimizer state that moves between frameworks: read any layout, write any other.

    from rmsprop import checkpoints
    snapshot = checkpoints.read("model.ckpt-1000")                       # what is in it
    checkpoints.convert("model.ckpt-1000", "run.pt", to="torch", names=["net/w", "net/b"])

Nothing is executed: torch files are read with weights_only, PaddlePaddle's by an unpickler that knows arrays alone.
Sizes that a file declares are compared with its own before anything is allocated. Each framework's package is imported
when one of its files is met: in a process of its own, with limits on time and memory, unless it is loaded already.
"""

from __future__ import annotations

from rmsprop.checkpoints._convert import FORMATS, Report, convert, read, write
from rmsprop.checkpoints._snapshot import Group, Parameter, Snapshot

__all__ = ["FORMATS", "Group", "Parameter", "Report", "Snapshot", "convert", "read", "write"]
