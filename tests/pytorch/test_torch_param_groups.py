"""Promise: `param_groups` gives weight decay to weights, and not to biases, norms and embeddings, by module type."""

import pytest
import torch
from torch import nn

from rmsprop.errors import InputTypeError
from rmsprop.torch import RMSprop, param_groups


class Scale(nn.Module):
    """A layer of the user's own, with a scale per channel."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(8))
        self.mix = nn.Parameter(torch.ones(8, 8))


MODULES = [
    # module, names of the parameters that decay
    (nn.Linear(4, 8), {"weight"}),
    (nn.Conv2d(3, 8, 3), {"weight"}),
    (nn.MultiheadAttention(8, 2), {"in_proj_weight", "out_proj.weight"}),
    (nn.LSTM(4, 8), {"weight_ih_l0", "weight_hh_l0"}),
    (nn.Embedding(5, 4), set()),
    (nn.EmbeddingBag(5, 4), set()),
    (nn.LayerNorm((4, 8)), set()),
    (nn.BatchNorm2d(8), set()),
    (nn.GroupNorm(2, 8), set()),
    (nn.RMSNorm((4, 8)), set()),
    (Scale(), {"mix"}),
    (nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 8), nn.LayerNorm(8)), {"1.weight"}),
]


@pytest.mark.parametrize(("module", "decayed"), MODULES, ids=lambda value: type(value).__name__)
def test_only_the_weights_decay_and_no_parameter_is_lost(module, decayed):
    groups = param_groups(module, weight_decay=0.1)
    names = {parameter: name for name, parameter in module.named_parameters()}
    found = {names.pop(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert not names
    assert {name for name, decay in found.items() if decay} == decayed
    assert all(group["params"] for group in groups)


def test_a_weight_shared_with_an_embedding_is_in_one_group_and_does_not_decay():
    embedding, head = nn.Embedding(5, 4), nn.Linear(4, 5, bias=False)
    head.weight = embedding.weight
    for layers in ((embedding, head), (head, embedding)):
        assert param_groups(nn.Sequential(*layers), weight_decay=0.1) == [
            {"params": [embedding.weight], "weight_decay": 0.0}
        ]


def test_a_step_decays_only_the_first_group():
    model = nn.Linear(2, 2)
    before = model.bias.detach().clone()
    optimizer = RMSprop(param_groups(model, weight_decay=0.5), lr=0.1)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    weight = model.weight.detach().clone()
    optimizer.step()
    assert torch.equal(model.bias, before)
    assert ((weight - model.weight) * weight > 0).all()


def test_what_is_no_module_raises():
    with pytest.raises(InputTypeError, match="expected a torch"):
        param_groups(nn.Linear(2, 2).parameters(), weight_decay=0.1)
