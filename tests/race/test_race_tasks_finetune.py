"""Fine-tuning, with a small random transformer; with MiniLM itself where it is on this machine."""

import numpy as np
import pytest
from task_data import get_first_batches, load, load_tiny_finetune, train_task

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def short_task():
    return load_tiny_finetune()


def test_every_weight_gets_a_gradient(short_task):
    task, data = short_task
    learner = task.learner(data, 0)
    loss, _ = learner.gradients(next(iter(learner.batches(1))))
    assert loss == pytest.approx(np.log(2), abs=0.2)
    assert [name for name, param in learner.model.named_parameters() if param.grad is None] == []


def test_a_trial_trains_a_copy_of_the_transformer(short_task):
    task, data = short_task
    before = {name: value.clone() for name, value in data.content.spec.state_dict().items()}
    trial = train_task(task, data, lr=0.0001, epochs=2)
    assert trial.train_loss[1] < trial.train_loss[0]
    after = data.content.spec.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_padding_does_not_change_the_logits(short_task):
    task, data = short_task
    learner = task.learner(data, 0)
    learner.model.double().eval()  # in float64, because the order of float32 sums also makes a difference
    part = data.content.splits["test"]
    shortest = int(part.mask.sum(1).argmin())
    alone = type(part)(*(tensor[shortest : shortest + 1] for tensor in part))
    with torch.no_grad():
        together = learner.predict(part)[shortest]
        torch.testing.assert_close(together, learner.predict(alone)[0], rtol=1e-10, atol=1e-10)
        unmasked = learner.predict(part._replace(mask=torch.ones_like(part.mask)))[shortest]
    assert (unmasked - together).abs().max() > 1e-6


def test_the_splits_do_not_overlap(short_task):
    _, data = short_task
    rows = [{tuple(row) for row in part.tokens.tolist()} for part in data.content.splits.values()]
    assert all(not a & b for i, a in enumerate(rows) for b in rows[i + 1 :])


def test_each_pass_has_another_order(short_task):
    task, data = short_task
    (first,), (second,) = (get_first_batches(task, data, epoch=epoch) for epoch in (1, 2))
    # All the training sentences of the short data are one batch.
    assert sorted(first.tokens.tolist()) == sorted(second.tokens.tolist())
    assert not torch.equal(first.tokens, second.tokens)


@pytest.mark.slow
def test_minilm_itself_is_trained():
    task, data = load("finetune", short=True)
    trial = train_task(task, data, lr=2e-5, epochs=2)
    assert trial.train_loss[1] < trial.train_loss[0]
