"""RMSprop's row of torch's own table of optimizers, with this class in it.

torch.testing._internal.common_optimizers ships the table, its inputs and its errors, but not the tests. The files that
import this one hold our own tests of the same expectations, over every input of the row.
"""

import copy
import dataclasses
from typing import Any

import pytest

from torching import Host, RMSprop, parameters

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest", reason="torch.testing._internal.common_optimizers imports it")
from torch.testing._internal.common_optimizers import optim_db  # noqa: E402


@dataclasses.dataclass
class Row:
    """RMSprop's row of torch's table with another class in it."""

    optimizer: Any
    table: Any

    def inputs(self):
        """The arguments of every input of the table, by its description."""
        return {given.desc: given.kwargs for given in self.table.optim_inputs_func("cpu")}


ROW = Row(RMSprop, next(info for info in optim_db if info.optim_cls is Host))
INPUTS = ROW.inputs()


def made(options, params=None, **more):
    return ROW.optimizer(params or parameters(), **copy.deepcopy(options), **more)


every_input = pytest.mark.parametrize("options", INPUTS.values(), ids=INPUTS)
