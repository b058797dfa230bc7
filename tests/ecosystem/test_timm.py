"""Inside timm: registered as an optimizer, with timm's groups, beside timm's own RMSpropTF."""

from __future__ import annotations

import sys
import types

import pytest
import torch
from problem import assert_close, make_data, make_model, read_weights

from peers.frameworks import ALONE, import_alone
from rmsprop.torch import RMSprop


@pytest.fixture
def factory(monkeypatch):
    if not (ALONE / "timm").is_dir():
        pytest.skip(f"no timm in {ALONE}: `make test` puts it there")
    # timm.models needs torchvision; the factory imports one function of it, for layer-wise decay, not used here.
    models = types.ModuleType("timm.models")
    models.group_parameters = None
    monkeypatch.setitem(sys.modules, "timm", types.ModuleType("timm"))
    monkeypatch.setitem(sys.modules, "timm.models", models)
    factory = import_alone(ALONE / "timm" / "optim", "_optim_factory")
    registry = factory.OptimizerRegistry()
    monkeypatch.setattr(factory, "default_registry", registry)
    factory._register_default_optimizers()
    return factory


def test_a_registered_optimizer_trains_as_timms_own(factory):
    info = factory.OptimInfo(name="rmspropexact", opt_class=RMSprop, has_momentum=True, defaults={"dialect": "timm"})
    factory.default_registry.register(info)
    x, y = make_data()
    weights = [read_weights(make_model())]
    for name in ("rmsproptf", "rmspropexact"):
        model = make_model()
        optimizer = factory.create_optimizer_v2(model, name, lr=1e-2, weight_decay=1e-2, momentum=0.9, eps=1e-3)
        for _ in range(10):
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(model(x), y).backward()
            optimizer.step()
        weights.append(read_weights(model))
    assert type(optimizer) is RMSprop
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.0, 1e-2]
    assert_close(weights[2], weights[1], weights[0])
