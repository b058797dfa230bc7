"""Promise: the optimizer works inside Lightning, Accelerate, Trainer and stable-baselines3, and its examples run."""

import importlib.util
import pathlib
import re

import pytest
import torch
from torch import nn
from torch_helpers import read_bits, use_one_thread  # noqa: F401

import rmsprop
from rmsprop.torch import RMSprop

# Warnings of the frameworks, none about the optimizer.
IGNORED = (
    r"ignore:`torch.jit.script_method` is deprecated",  # torch.compile imports a module of torch that uses it
    r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning uses an older function of torch
    r"ignore:The '.*' does not have many workers",  # Lightning: the loader needs none
    r"ignore:Checkpoint directory .* exists and is not empty",  # Lightning: two checkpoints in one folder
    r"ignore:.*'pin_memory' argument is set as true but no accelerator is found",  # Accelerate, on a CPU
)
pytestmark = [pytest.mark.filterwarnings(text) for text in IGNORED]

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def stay_offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")


def load_example(name, *needs):
    for module in needs:
        pytest.importorskip(module)
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def assert_same_bits(model, expected):
    assert read_bits(list(model.parameters())) == read_bits(list(expected.parameters()))


# ---- torch alone -----------------------------------------------------------------------------------------------------


def test_the_drop_in_example_learns_digits_as_torchs_own_does():
    accuracy, torchs = load_example("torch_drop_in", "sklearn").main()
    assert accuracy > 0.85
    assert abs(accuracy - torchs) < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("with_scheduler", [False, True])
def test_the_compile_example_compiles_one_graph_for_all_learning_rates(with_scheduler):
    torch._dynamo.reset()
    losses, graphs = load_example("torch_compile").main(with_scheduler=with_scheduler)
    assert graphs == 1
    assert losses[-1] < losses[0] / 2


# ---- Lightning -------------------------------------------------------------------------------------------------------


@pytest.fixture
def lightning():
    return load_example("torch_lightning", "lightning")


def train_in_a_loop(lightning, module, epochs, clip=None):
    (optimizer,), (scheduler,) = module.configure_optimizers()
    for _ in range(epochs):
        for x, y in lightning.load_data():
            optimizer.zero_grad()
            nn.functional.mse_loss(module.model(x), y).backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(module.parameters(), clip)
            optimizer.step()
        scheduler.step()
    return module


@pytest.mark.peers
def test_lightning_trains_to_the_bits_of_a_plain_loop(lightning):
    module = lightning.main()
    assert module.losses[-1] < module.losses[0] * 0.8
    assert_same_bits(module, train_in_a_loop(lightning, lightning.Regression(max_norm=50.0), 4))


@pytest.mark.peers
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_lightnings_own_clipping_works_in_every_precision_as_with_torchs(lightning, precision):
    modules = []
    for cls in (torch.optim.RMSprop, RMSprop):
        modules.append(lightning.Regression(optimizer_class=cls))
        trainer = lightning.make_trainer(max_epochs=2, gradient_clip_val=1.0, precision=precision)
        trainer.fit(modules[-1], lightning.load_data())
    for theirs, ours in zip(*(module.parameters() for module in modules)):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    if precision == "32-true":
        assert_same_bits(modules[1], train_in_a_loop(lightning, lightning.Regression(), 2, clip=1.0))


@pytest.mark.peers
def test_lightning_resumes_from_its_checkpoint_with_the_same_bits(lightning, tmp_path):
    options = {"momentum": 0.9, "centered": True, "dialect": "timm"}
    first, resumed = lightning.Regression(**options), lightning.Regression(**options)
    trainer = lightning.make_trainer(max_epochs=2)
    trainer.fit(first, lightning.load_data())
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    lightning.make_trainer(max_epochs=4).fit(resumed, lightning.load_data(), ckpt_path=tmp_path / "half.ckpt")
    assert_same_bits(resumed, train_in_a_loop(lightning, lightning.Regression(**options), 4))


@pytest.mark.peers
def test_lightning_in_mixed_precision_clips_by_max_norm(lightning):
    module = lightning.main(precision="bf16-mixed", max_epochs=2)
    assert module.losses[-1] < module.losses[0]
    assert all(p.isfinite().all() for p in module.parameters())
    assert module.optimizers().optimizer.grad_norm > 0


@pytest.mark.peers
def test_lightning_in_16_bit_clips_the_unscaled_gradients_as_with_torchs(lightning):
    from lightning.pytorch.plugins.precision import MixedPrecision

    class Clipped(lightning.Regression):
        """Clips itself, and records the norms before clipping and the gradients after the step."""

        def on_train_start(self):
            self.norms, self.grads = [], []

        def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None):
            self.norms.append(float(nn.utils.clip_grad_norm_(self.parameters(), 1.0)))

        def optimizer_step(self, *args, **kwargs):
            super().optimizer_step(*args, **kwargs)
            self.grads.append(max(float(p.grad.abs().max()) for p in self.parameters()))

    modules = []
    for cls in (torch.optim.RMSprop, RMSprop):
        modules.append(Clipped(optimizer_class=cls))
        scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
        precision = MixedPrecision("16-mixed", "cpu", scaler=scaler)
        lightning.make_trainer(max_epochs=2, plugins=[precision]).fit(modules[-1], lightning.load_data())
    theirs, ours = modules
    assert ours.norms == pytest.approx(theirs.norms, rel=1e-2)
    assert ours.grads == pytest.approx(theirs.grads, rel=1e-2)
    assert max(ours.grads) <= 1.0
    for a, b in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-3)


def test_only_a_step_that_clips_gets_the_scale_of_mixed_precision():
    weight = [nn.Parameter(torch.ones(2))]
    assert not RMSprop(weight)._step_supports_amp_scaling
    assert RMSprop(weight, max_norm=1.0)._step_supports_amp_scaling


# ---- Accelerate ------------------------------------------------------------------------------------------------------


@pytest.mark.peers
def test_accelerate_saves_loads_and_accumulates_like_a_plain_loop():
    accelerate = load_example("torch_accelerate", "accelerate")
    trained, uninterrupted, resumed = accelerate.main(accumulate=2)
    assert uninterrupted == resumed
    model, dataset = accelerate.make_problem()
    optimizer = RMSprop(model.parameters(), lr=2e-3, momentum=0.9, max_norm=20.0)
    for _ in range(5):
        for i, (x, y) in enumerate(torch.utils.data.DataLoader(dataset, batch_size=32)):
            (nn.functional.mse_loss(model(x), y) / 2).backward()
            if i % 2:
                optimizer.step()
                optimizer.zero_grad()
    assert_same_bits(trained, model)


@pytest.mark.peers
def test_accelerate_sees_an_overflow_as_with_torchs():
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    runs = []
    for cls in (torch.optim.RMSprop, RMSprop):
        weight = nn.Parameter(torch.ones(3))
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        plain = cls([weight], lr=0.1)
        scheduler = accelerator.prepare_scheduler(torch.optim.lr_scheduler.ExponentialLR(plain, 0.5))
        optimizer = accelerate.optimizer.AcceleratedOptimizer(plain, scaler=scaler)
        scheduler.optimizers = [optimizer]
        seen = []
        for step in range(4):
            scaler.scale((weight * (torch.inf if step == 2 else 1.0)).sum()).backward()
            optimizer.step()
            scheduler.step()
            seen.append((optimizer.step_was_skipped, scheduler.get_last_lr(), scaler.get_scale(), weight.grad.tolist()))
            optimizer.zero_grad()
        runs.append((seen, weight))
    assert runs[0][0] == runs[1][0]
    assert [skipped for skipped, *_ in runs[1][0]] == [False, False, True, False]
    assert runs[1][0][3][3] == [1.0, 1.0, 1.0], "the gradients after the step are still scaled"
    torch.testing.assert_close(runs[0][1], runs[1][1])


# ---- Hugging Face Trainer --------------------------------------------------------------------------------------------


@pytest.fixture
def trainer_example():
    return load_example("torch_hf_trainer", "transformers", "accelerate")


@pytest.mark.peers
@pytest.mark.slow
def test_the_trainer_example_learns_to_count(trainer_example):
    trainer, following = trainer_example.main()
    assert following == 6
    assert isinstance(trainer.optimizer.optimizer, RMSprop)
    assert trainer.optimizer.optimizer.grad_norm > 0


@pytest.mark.peers
def test_the_trainer_decays_weights_but_not_biases(trainer_example, tmp_path):
    optimizer = trainer_example.make_trainer(str(tmp_path), weight_decay=0.1).create_optimizer()
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert all(p.dim() == 1 for p in optimizer.param_groups[1]["params"])


@pytest.mark.peers
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


# ---- stable-baselines3 -----------------------------------------------------------------------------------------------


@pytest.fixture
def a2c():
    return load_example("torch_sb3_a2c", "stable_baselines3")


@pytest.mark.peers
@pytest.mark.slow
def test_a2c_balances_the_pole_within_150_000_frames(a2c):
    mean_return, frames = a2c.main(seed=0)
    assert mean_return >= 450
    assert frames <= 150_000


@pytest.mark.peers
def test_a2c_trains_as_with_stable_baselines3s_own_rmsprop(a2c):
    from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike

    theirs = {"optimizer_class": RMSpropTFLike, "optimizer_kwargs": {"alpha": 0.99, "eps": 1e-5}}
    models = [a2c.make_model(0), a2c.make_model(0).learn(1280), a2c.make_model(0, policy_kwargs=theirs).learn(1280)]
    start, ours, expected = (nn.utils.parameters_to_vector(model.policy.parameters()).detach() for model in models)
    assert (ours - start).abs().max() > 1e-2
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


# ---- documents -------------------------------------------------------------------------------------------------------


def test_the_code_of_the_page_about_pytorch_runs():
    page = (EXAMPLES.parent / "docs" / "use" / "pytorch.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names = {"torch": torch, "rmsprop": rmsprop, "model": nn.Linear(3, 1)}
    torch._dynamo.reset()
    assert len(blocks) > 7
    for block in blocks:
        before = names["model"].weight.detach().clone()
        exec(block + ("\nstep()" if "def step" in block else ""), names)
        assert "step" not in block or not torch.equal(before, names["model"].weight), block


def test_every_torch_example_is_run_by_a_test():
    tests = "".join(path.read_text() for path in pathlib.Path(__file__).parent.glob("test_torch_*.py"))
    examples = list(EXAMPLES.glob("torch_*.py"))
    assert examples
    for path in examples:
        assert f'"{path.stem}"' in tests or f'"{path.name}"' in tests, path.name
