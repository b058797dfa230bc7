"""Trainings that go well have no finding, with the defaults of any framework."""

from __future__ import annotations

import pytest
from trainings import MAKERS, TorchRMSprop, torch, watch

from rmsprop import Rule

OWN = MAKERS["rmsprop"]


def train_classifier(make, *, dtype=torch.float32):
    """Train a small classifier of random clusters until it has learned them."""
    generator = torch.Generator().manual_seed(0)
    centers = 2 * torch.randn(5, 20, generator=generator)
    labels = torch.randint(5, (640,), generator=generator)
    points = (centers[labels] + torch.randn(640, 20, generator=generator)).to(dtype)
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(20, 32), torch.nn.ReLU(), torch.nn.Linear(32, 5)).to(dtype)
    optimizer = make(model.parameters())
    with watch(optimizer, every=20, names=model, budget=None) as watcher:
        for step in range(200):
            batch = slice(32 * (step % 20), 32 * (step % 20) + 32)
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(points[batch]).float(), labels[batch])
            loss.backward()
            optimizer.step()
    return watcher, float(loss.detach())


HEALTHY = {
    "torch": (TorchRMSprop, {}),
    "torch, centered": (TorchRMSprop, {"centered": True}),
    "torch, momentum": (TorchRMSprop, {"lr": 1e-4, "momentum": 0.9}),
    "rmsprop": (OWN, {}),
    "rmsprop, 8 bits": (OWN, {"state_dtype": "8bit"}),
    "rmsprop, centered": (OWN, {"centered": True}),
    "tensorflow1": (OWN, {"dialect": "tensorflow1"}),
    "keras3": (OWN, {"dialect": "keras3"}),
    "optax": (OWN, {"dialect": "optax"}),
    "bias correction": (OWN, {"dialect": Rule(bias_correction=True, rho=0.99)}),
    "bfloat16": (OWN, {"param_rounding": "compensated"}),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_a_training_that_goes_well_has_no_finding(name):
    make, options = HEALTHY[name]
    dtype = torch.bfloat16 if name == "bfloat16" else torch.float32
    watcher, loss = train_classifier(lambda params: make(params, **{"lr": 1e-3, **options}), dtype=dtype)
    assert loss < 0.5  # it did learn
    assert len(watcher.samples) == 4
    assert watcher.findings == []


@pytest.mark.parametrize(
    ("make", "options"),
    [(TorchRMSprop, {}), (TorchRMSprop, {"alpha": 0.9}), (OWN, {"lazy": True})],
    ids=["torch", "short memory", "sparse, lazy"],
)
def test_an_embedding_most_of_whose_words_have_not_appeared_has_no_finding(make, options):
    words = 6000
    generator = torch.Generator().manual_seed(0)
    chance = 1 / torch.arange(1, words + 1)
    torch.manual_seed(1)
    table, layer = torch.nn.Embedding(words, 8, sparse="lazy" in options), torch.nn.Linear(8, 2)
    meaning = torch.randn(words, generator=generator)
    optimizer = make([*table.parameters(), *layer.parameters()], lr=1e-2, **options)
    losses = []
    with watch(optimizer, every=20, names={"table": table.weight}, budget=None) as watcher:
        for _ in range(161):
            sentences = torch.multinomial(chance, 160, replacement=True, generator=generator).view(16, 10)
            optimizer.zero_grad()
            labels = (meaning[sentences].sum(1) > 0).long()
            loss = torch.nn.functional.cross_entropy(layer(table(sentences).mean(1)), labels)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    assert sum(losses[-20:]) < 0.9 * sum(losses[:20])  # it did learn
    sample = watcher.samples["table"]
    assert sample.dead_rows > 0.25 * sample.rows  # a finding, if the rows were units
    assert watcher.findings == []
