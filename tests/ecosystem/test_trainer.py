"""Inside the Trainer of Hugging Face."""

from __future__ import annotations

import pytest
from problem import assert_same_bits

from example_programs import load_example
from rmsprop.torch import RMSprop

# Warnings of the framework, none about the optimizer.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*'pin_memory' argument is set as true but no accelerator is found"),
]


@pytest.fixture
def trainer_example():
    return load_example("torch_hf_trainer", "transformers", "accelerate")


@pytest.mark.slow
def test_the_trainer_example_learns_to_count(trainer_example):
    trainer, following = trainer_example.main()
    assert following == 6
    assert isinstance(trainer.optimizer.optimizer, RMSprop)
    assert trainer.optimizer.optimizer.grad_norm > 0


def test_the_trainer_decays_weights_but_not_biases(trainer_example, tmp_path):
    optimizer = trainer_example.make_trainer(str(tmp_path), weight_decay=0.1).create_optimizer()
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert all(p.dim() == 1 for p in optimizer.param_groups[1]["params"])


@pytest.mark.slow
def test_the_trainer_resumes_from_its_checkpoint_with_the_same_bits(trainer_example, tmp_path):
    from transformers import TrainerCallback

    class StopAtFour(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = state.global_step >= 4

    uninterrupted = trainer_example.make_trainer(str(tmp_path / "uninterrupted"), steps=8)
    uninterrupted.train()
    options = {"steps": 8, "save_strategy": "steps", "save_steps": 4}
    first, resumed = (trainer_example.make_trainer(str(tmp_path / "stopped"), **options) for _ in range(2))
    first.add_callback(StopAtFour())
    first.train()
    resumed.train(resume_from_checkpoint=True)
    assert (first.state.global_step, resumed.state.global_step) == (4, 8)
    assert_same_bits(resumed.model, uninterrupted.model)
