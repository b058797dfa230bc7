"""A small problem, and comparisons of trained models."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from rmsprop.torch import RMSprop

OPTIMIZERS = (torch.optim.RMSprop, RMSprop)
"""Stock first, then ours."""


def make_data():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(64, 4, generator=generator)
    return x, x.square().sum(1, keepdim=True)


def make_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))


def read_weights(model):
    return nn.utils.parameters_to_vector(model.parameters()).detach()


def assert_close(ours, theirs, start, rtol=1e-4, atol=1e-6):
    """Assert that both trained to the same weights, and that they did train."""
    ours, theirs, start = (np.asarray(array) for array in (ours, theirs, start))
    assert np.abs(ours - start).max() > 1e-2
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)


def assert_same_bits(model, expected):
    for ours, other in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(ours, other)
