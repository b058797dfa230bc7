"""What the tests of 16-bit training and narrow statistics share: one thread, and a mean square as float32 numbers."""

from __future__ import annotations

import pytest
import torch

from rmsprop.torch import RMSprop

STATE_DTYPES = ("float32", "bfloat16", "8bit")


@pytest.fixture(autouse=True)
def one_thread():
    # These arrays are too small for a second thread to pay, and two OpenMP runtimes that wait for each other's.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def mean_square(state):
    """square_avg as float32 numbers, decoded by a checkpoint's way into a float32 optimizer."""
    param = torch.nn.Parameter(torch.zeros(next(v for k, v in state.items() if k.startswith("square_avg")).shape))
    target = RMSprop([param])
    saved = {"state": {0: state}, "param_groups": [{**RMSprop([param]).state_dict()["param_groups"][0]}]}
    target.load_state_dict(saved)
    return target.state[param]["square_avg"]
