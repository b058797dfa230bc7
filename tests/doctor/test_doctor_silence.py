"""What the doctor says of trainings that go well: nothing, whichever framework's defaults they have."""

from __future__ import annotations

import pytest

from rmsprop import Rule

torch = pytest.importorskip("torch", reason="torch is not installed")

import rmsprop.torch  # noqa: E402
from rmsprop.doctor import watch  # noqa: E402

Host = torch.optim.RMSprop


def digits_network(make, *, steps=200, dtype=torch.float32):
    """A small classifier of drawn clusters, learnt to the end."""
    generator = torch.Generator().manual_seed(0)
    centres = 2 * torch.randn(5, 20, generator=generator)
    labels = torch.randint(5, (640,), generator=generator)
    points = (centres[labels] + torch.randn(640, 20, generator=generator)).to(dtype)
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(20, 32), torch.nn.ReLU(), torch.nn.Linear(32, 5)).to(dtype)
    optimizer = make(model.parameters())
    loss = None
    with watch(optimizer, every=20, names=model, budget=None) as watching:
        for step in range(steps):
            some = slice(32 * (step % 20), 32 * (step % 20) + 32)
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(points[some]).float(), labels[some])
            loss.backward()
            optimizer.step()
    return watching, float(loss.detach())


HEALTHY = {
    "torch": lambda params: Host(params, lr=1e-3),
    "torch, centered": lambda params: Host(params, lr=1e-3, centered=True),
    "torch, momentum": lambda params: Host(params, lr=1e-4, momentum=0.9),
    "here": lambda params: rmsprop.torch.RMSprop(params, lr=1e-3),
    "here, 8 bits": lambda params: rmsprop.torch.RMSprop(params, lr=1e-3, state_dtype="8bit"),
    "here, centered": lambda params: rmsprop.torch.RMSprop(params, lr=1e-3, centered=True),
    "tensorflow1": lambda params: rmsprop.torch.RMSprop(params, lr=1e-3, dialect="tensorflow1"),
    "keras3": lambda params: rmsprop.torch.RMSprop(params, lr=1e-3, dialect="keras3"),
    "optax": lambda params: rmsprop.torch.RMSprop(params, lr=1e-3, dialect="optax"),
    "corrected": lambda params: rmsprop.torch.RMSprop(params, lr=1e-3, dialect=Rule(bias_correction=True, rho=0.99)),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_a_training_that_goes_well_gives_no_finding(name):
    watching, loss = digits_network(HEALTHY[name])
    assert loss < 0.5  # it did learn
    assert len(watching.samples) == 4
    assert watching.findings == []


def test_compensated_bfloat16_that_learns_gives_no_finding():
    def make(params):
        return rmsprop.torch.RMSprop(params, lr=1e-3, param_rounding="compensated")

    watching, loss = digits_network(make, dtype=torch.bfloat16)
    assert loss < 0.5
    assert watching.findings == []


def words_network(make, *, sparse=False, words=6000, steps=161):
    """An embedding of words that come as often as words do, the sum of which says which class a sentence has."""
    generator = torch.Generator().manual_seed(0)
    chance = 1 / torch.arange(1, words + 1)
    torch.manual_seed(1)
    table, layer = torch.nn.Embedding(words, 8, sparse=sparse), torch.nn.Linear(8, 2)
    meaning = torch.randn(words, generator=generator)
    optimizer = make([*table.parameters(), *layer.parameters()])
    losses = []
    with watch(optimizer, every=20, names={"table": table.weight}, budget=None) as watching:
        for _ in range(steps):
            sentences = torch.multinomial(chance, 160, replacement=True, generator=generator).view(16, 10)
            optimizer.zero_grad()
            logits = layer(table(sentences).mean(1))
            loss = torch.nn.functional.cross_entropy(logits, (meaning[sentences].sum(1) > 0).long())
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    return watching, sum(losses[:20]) / 20, sum(losses[-20:]) / 20


WORDS = {
    "torch": ({}, lambda params: Host(params, lr=1e-2)),
    "torch, short memory": ({}, lambda params: Host(params, lr=1e-2, alpha=0.9)),
    "here, lazy": ({"sparse": True}, lambda params: rmsprop.torch.RMSprop(params, lr=1e-2, lazy=True)),
}


@pytest.mark.parametrize("name", WORDS)
def test_an_embedding_most_of_whose_words_have_not_come_gives_no_finding(name):
    options, make = WORDS[name]
    watching, first, last = words_network(make, **options)
    assert last < 0.9 * first  # it did learn
    look = watching.samples["table"]
    assert look.dead_rows > 0.25 * look.rows  # which in a layer of units would be one
    assert watching.findings == []
