"""Fine-tuning: the transformer comes from its package alone, and all of it is trained."""

import dataclasses
import sys

import pytest

from rmsprop.errors import MissingDependency
from rmsprop.race import get
from rmsprop.race.record import Job
from rmsprop.race.trial import train

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def loaded():
    task = dataclasses.replace(get("finetune"), short=True, threads=1)
    try:
        return task, task.load()
    except MissingDependency as error:
        pytest.skip(str(error))


def test_every_weight_gets_a_gradient_and_their_number_is_the_one_described(loaded):
    task, data = loaded
    learner = task.learner(data, 0)
    loss, _ = learner.gradients(next(iter(learner.batches(1))))
    assert loss == pytest.approx(0.693, abs=0.2)
    assert f"{sum(param.numel() for param in learner.params):,} parameters" in task.model
    without = [name for name, param in learner.model.named_parameters() if param.grad is None]
    assert without == []


def test_a_trial_trains_a_copy_and_repeats_itself(loaded):
    task, data = loaded
    before = {name: value.clone() for name, value in data.content.transformer.state_dict().items()}
    job = Job(phase="final", optimizer="rmsprop", lr=2e-5, seed=0)
    with task.session():
        first, again = (train(task, data, job, epochs=2) for _ in range(2))
    assert (first.loss, first.train_loss) == (again.loss, again.train_loss)
    assert first.train_loss[1] < first.train_loss[0]
    after = data.content.transformer.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_padding_does_not_change_what_is_read(loaded):
    task, data = loaded
    learner = task.learner(data, 0)
    learner.model.double()  # so that only what is read can make a difference, not the order of float32 sums
    part = data.content.splits["test"]
    one = int(part.mask.sum(1).argmin())
    with learner.evaluating():
        together = learner.scores(part)[one]
        alone = learner.scores(type(part)(*(tensor[one : one + 1] for tensor in part)))[0]
        read = learner.scores(part._replace(mask=torch.ones_like(part.mask)))[one]
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-10)
    assert (read - alone).abs().max() > 1e-6


def test_the_parts_do_not_overlap(loaded):
    _, data = loaded
    rows = [set(map(tuple, part.tokens.tolist())) for part in data.content.splits.values()]
    assert all(not a & b for i, a in enumerate(rows) for b in rows[i + 1 :])


def test_an_epoch_goes_on_in_the_order_where_the_last_one_ended(loaded):
    task, data = loaded
    learner = task.learner(data, 0)
    first, second = next(iter(learner.batches(1))), next(iter(learner.batches(2)))
    # One batch is the whole of the short data: each epoch has them all, in another order.
    assert sorted(first.tokens.sum(1).tolist()) == sorted(second.tokens.sum(1).tolist())
    assert not torch.equal(first.tokens, second.tokens)


def test_without_transformers_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingDependency, match=r'transformers is needed for .*: pip install "rmsprop\[race\]"'):
        get("finetune").load()
