"""The optimizer inside what PyTorch programs are built with; each example of examples/torch_*.py is run here."""

import importlib.util
import pathlib
import re

import pytest
import torch
from torch import nn

from rmsprop.torch import RMSprop

# The frameworks' own warnings, none about the optimizer.
IGNORED = (
    r"ignore:`torch.jit.script_method` is deprecated",  # torch.compile imports a module of torch that uses it
    r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning walks batches by an older torch function
    r"ignore:The '.*' does not have many workers",  # Lightning: the loader needs none
    r"ignore:Checkpoint directory .* exists and is not empty",  # Lightning: two checkpoints in one folder, wanted here
    r"ignore:.*'pin_memory' argument is set as true but no accelerator is found",  # Accelerate, on a CPU
)
pytestmark = [pytest.mark.filterwarnings(text) for text in IGNORED]

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def _offline_and_on_one_thread(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the models are small
    yield
    torch.set_num_threads(threads)


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def assert_same_bits(model, expected):
    for mine, other in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=0)


# ---- torch alone -----------------------------------------------------------------------------------------------------


def test_the_drop_in_example_learns_digits_as_torchs_own_does():
    pytest.importorskip("sklearn")
    right, theirs = example("torch_drop_in").main()
    assert right > 0.85
    assert abs(right - theirs) < 0.01


@pytest.mark.parametrize("with_scheduler", [False, True])
def test_the_compile_example_compiles_one_graph_for_all_learning_rates(with_scheduler):
    torch._dynamo.reset()
    losses, graphs = example("torch_compile").main(with_scheduler=with_scheduler)
    assert graphs == 1
    assert losses[-1] < losses[0] / 2


# ---- Lightning -------------------------------------------------------------------------------------------------------


def lightning_example():
    pytest.importorskip("lightning")
    return example("torch_lightning")


def by_hand(lightning, module, epochs, clip=None):
    (optimizer,), (scheduler,) = module.configure_optimizers()
    for _ in range(epochs):
        for x, y in lightning.data():
            optimizer.zero_grad()
            nn.functional.mse_loss(module.model(x), y).backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(module.parameters(), clip)
            optimizer.step()
        scheduler.step()
    return module


def test_lightning_trains_to_the_bits_of_a_loop_written_by_hand():
    lightning = lightning_example()
    module = lightning.main()
    assert module.losses[-1] < module.losses[0] * 0.8
    assert_same_bits(module, by_hand(lightning, lightning.Regression(max_norm=50.0), 4))


def test_lightning_clips_before_the_step_when_told_to():
    lightning = lightning_example()
    module = lightning.Regression()
    lightning.trainer(max_epochs=2, gradient_clip_val=1.0).fit(module, lightning.data())
    assert_same_bits(module, by_hand(lightning, lightning.Regression(), 2, clip=1.0))


def test_lightning_goes_on_from_its_checkpoint_with_the_same_bits(tmp_path):
    lightning = lightning_example()
    options = {"momentum": 0.9, "centered": True, "dialect": "timm"}
    first = lightning.Regression(**options)
    trainer = lightning.trainer(max_epochs=2)
    trainer.fit(first, lightning.data())
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    resumed = lightning.Regression(**options)
    lightning.trainer(max_epochs=4).fit(resumed, lightning.data(), ckpt_path=tmp_path / "half.ckpt")
    assert_same_bits(resumed, by_hand(lightning, lightning.Regression(**options), 4))


def test_lightning_in_mixed_precision_clips_by_max_norm():
    lightning = lightning_example()
    module = lightning.main(precision="bf16-mixed", max_epochs=2)
    assert module.losses[-1] < module.losses[0]
    assert all(p.isfinite().all() for p in module.parameters())
    assert module.optimizers().optimizer.grad_norm > 0


# ---- Accelerate ------------------------------------------------------------------------------------------------------


def test_accelerate_saves_loads_and_accumulates_like_a_loop_written_by_hand():
    pytest.importorskip("accelerate")
    accelerate = example("torch_accelerate")
    trained, uninterrupted, resumed = accelerate.main(accumulate=2)
    assert uninterrupted == resumed
    model, dataset = accelerate.problem()
    optimizer = RMSprop(model.parameters(), lr=2e-3, momentum=0.9, max_norm=20.0)
    for _ in range(5):
        for i, (x, y) in enumerate(torch.utils.data.DataLoader(dataset, batch_size=32)):
            (nn.functional.mse_loss(model(x), y) / 2).backward()
            if i % 2:
                optimizer.step()
                optimizer.zero_grad()
    assert_same_bits(trained, model)


# ---- Hugging Face Trainer --------------------------------------------------------------------------------------------


def trainer_example():
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    return example("torch_hf_trainer")


def test_the_trainer_example_learns_to_count():
    trainer, following = trainer_example().main()
    assert following == 6
    assert isinstance(trainer.optimizer.optimizer, RMSprop)
    assert trainer.optimizer.optimizer.grad_norm > 0


def test_the_trainer_decays_weights_but_not_biases(tmp_path):
    trainer = trainer_example().make(str(tmp_path), weight_decay=0.1)
    optimizer = trainer.create_optimizer()
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert all(p.dim() == 1 for p in optimizer.param_groups[1]["params"])


def test_the_trainer_goes_on_from_its_checkpoint_with_the_same_bits(tmp_path):
    hf = trainer_example()
    straight = hf.make(str(tmp_path / "straight"), steps=8)
    straight.train()
    folder = str(tmp_path / "broken")
    options = {"steps": 8, "save_strategy": "steps", "save_steps": 4}
    first = hf.make(folder, **options)
    first.add_callback(stop_at(4))
    first.train()
    resumed = hf.make(folder, **options)
    resumed.train(resume_from_checkpoint=True)
    assert first.state.global_step == 4
    assert resumed.state.global_step == 8
    assert_same_bits(resumed.model, straight.model)


def stop_at(step):
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = state.global_step >= step

    return Stop()


# ---- stable-baselines3 -----------------------------------------------------------------------------------------------


def a2c_example():
    pytest.importorskip("stable_baselines3")
    return example("torch_sb3_a2c")


def test_a2c_balances_the_pole_within_150_000_frames():
    mean_return, frames = a2c_example().main(seed=0)
    assert mean_return >= 450
    assert frames <= 150_000


def test_a2c_walks_the_path_of_stable_baselines3s_own_tensorflow_like_rmsprop():
    a2c = a2c_example()
    from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike

    start = weights(a2c.make(0))
    mine = weights(a2c.make(0).learn(1280))
    options = {"optimizer_class": RMSpropTFLike, "optimizer_kwargs": {"alpha": 0.99, "eps": 1e-5}}
    theirs = weights(a2c.make(0, policy_kwargs=options).learn(1280))
    assert (mine - start).abs().max() > 1e-2
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def weights(model):
    return nn.utils.parameters_to_vector(model.policy.parameters()).detach().clone()


# ---- the page about it -----------------------------------------------------------------------------------------------


def test_the_code_of_the_page_about_pytorch_runs():
    import rmsprop

    page = (EXAMPLES.parent / "docs" / "use" / "pytorch.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names = {"torch": torch, "rmsprop": rmsprop, "model": nn.Linear(3, 1)}
    # In float32 and small, for a GradScaler starts with a factor of 65536 and float16 ends at 65504.
    names["loss_of"] = lambda model: 1e-3 * model(torch.ones(2, 3, dtype=model.weight.dtype)).float().sum()
    torch._dynamo.reset()
    assert len(blocks) > 7
    for block in blocks:
        if "GradScaler" in block:  # after the 16-bit weights: loss scales are for float32 ones
            names["model"] = nn.Linear(3, 1)
            names["optimizer"] = RMSprop(names["model"].parameters(), max_norm=1.0)
        if "release_gradients" in block:  # refuses the max_norm of before
            names["optimizer"] = RMSprop(names["model"].parameters())
        before = names["model"].weight.detach().clone()
        exec(block + ("\nstep()" if "def step" in block else ""), names)
        assert "step" not in block or not torch.equal(before, names["model"].weight), block


def test_every_torch_example_is_run_by_a_test():
    tests = "".join(path.read_text() for path in pathlib.Path(__file__).parent.glob("test_torch_*.py"))
    for path in EXAMPLES.glob("torch_*.py"):
        assert f'"{path.stem}"' in tests or f'"{path.name}"' in tests, path.name
