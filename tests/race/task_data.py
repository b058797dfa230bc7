"""The data of the tasks, read once, for the tests: a test whose data are not on this machine is skipped by name."""

import dataclasses
import functools
import itertools
import tempfile
from pathlib import Path

import pytest

from rmsprop.errors import MissingDependency
from rmsprop.race import choice, get
from rmsprop.race import data as task_data
from rmsprop.race.record import Job
from rmsprop.race.trial import train

torch = pytest.importorskip("torch")


@functools.cache
def _load(name, short):
    task = get(name)
    if task.framework == "torch":
        # One thread: the tests share their cores with others.
        task = dataclasses.replace(task, short=short, threads=1)
    try:
        return task, task.load()
    except MissingDependency as error:
        return task, str(error)


def load(name, *, short=False):
    """Return a task and its data, all of them or the part that --quick uses."""
    task, data = _load(name, short)
    if isinstance(data, str):
        pytest.skip(data)
    return task, data


def train_task(task, data, *, optimizer="rmsprop", lr=0.002, seed=0, epochs=1):
    with task.session():
        return train(task, data, Job(phase="final", optimizer=optimizer, lr=lr, seed=seed), epochs=epochs)


def take_steps(task, data, *, seed=0, count=4):
    """Train a few steps; return the losses, and the scores afterwards."""
    with task.session():
        learner = task.learner(data, seed)
        sparse = getattr(learner, "sparse", False)
        step = choice.make_stepper("rmsprop", task.framework, learner.params, lr=0.002, sparse=sparse)
        losses = []
        for batch in itertools.islice(learner.batches(1), count):
            loss, grads = learner.gradients(batch)
            step(grads)
            losses.append(loss)
        return losses, learner.score("valid")


def get_first_batches(task, data, *, seed=0, epoch=1, count=2):
    return list(itertools.islice(task.learner(data, seed).batches(epoch), count))


def hide_installed_data(monkeypatch, cache):
    """Look for data in an empty cache alone."""
    monkeypatch.setenv("RMSPROP_DATA", str(cache))
    monkeypatch.setattr(task_data, "_list_places", lambda source, file: iter([cache / source.name / file.name]))


def load_tiny_finetune():
    """Return finetune with a small random transformer in place of MiniLM, which is 84 MB to download."""
    return _load_tiny_finetune()


@functools.cache
def _load_tiny_finetune():
    transformers = pytest.importorskip("transformers")
    if not task_data.is_complete("sentiment"):
        pytest.skip("the data of sentiment are not here")
    task = dataclasses.replace(get("finetune"), short=True, threads=1)
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        (Path(folder) / "vocab.txt").write_text("\n".join(vocabulary))
        transformers.BertTokenizer(str(Path(folder) / "vocab.txt")).save_pretrained(folder)
        torch.manual_seed(0)
        config = transformers.BertConfig(
            vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
        )
        transformers.BertModel(config).save_pretrained(folder)
        patch.setattr(task_data, "find_folder", lambda name: Path(folder))
        return task, task.load()
