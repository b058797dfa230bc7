"""Watch two trainings on real handwritten digits: one with a harmful start, and one as its finding advises.

The folder runs/doctor-example then holds a line of JSON for each sample; `rmsprop doctor` reads it. Needs scikit-learn
for the digits: pip install "rmsprop[torch,lab]".
"""

import logging
import sys
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn

import rmsprop.doctor
from rmsprop.torch import RMSprop


def train(to=None, epochs=4, **options):
    torch.manual_seed(0)
    digits = load_digits()
    x, y = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = RMSprop(model.parameters(), lr=5e-3, alpha=0.99, momentum=0.937, **options)
    highest = 0.0
    with rmsprop.doctor.watch(optimizer, every=20, to=to, names=model, tensorboard=False) as watcher:
        for _ in range(epochs):
            for batch in torch.randperm(1400).split(32):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
                loss.backward()
                optimizer.step()
                highest = max(highest, loss.item())
    return watcher, highest


def main(folder="runs/doctor-example"):
    logging.disable()  # what the watch would log is printed below
    rmsprop.doctor.quiet()  # and what RMSprop would warn of at construction
    (Path(folder) / "doctor.jsonl").unlink(missing_ok=True)
    harmful, highest = train(to=folder)
    print(f"mean_sq from 0: the loss, 2.3 at the start, rose to {highest:.1f}")
    print(f"  {harmful.findings[0]}")
    cured, lower = train(dialect="tensorflow1")
    print(f"as advised, dialect tensorflow1: {lower:.1f}")
    print(f"  findings of a start: {sum(finding.kind == 'start' for finding in cured.findings)}")
    print(f"next: rmsprop doctor {folder}")
    return highest, lower


if __name__ == "__main__":
    main(*sys.argv[1:])
