"""Promise: Lightning clips with this optimizer as with torch's, and its command line shows and reads the arguments."""

from __future__ import annotations

import pytest
import torch
import yaml

import rmsprop

lightning = pytest.importorskip("lightning", reason="lightning is not installed")
pytest.importorskip("jsonargparse", reason="jsonargparse is not installed")
from lightning.pytorch.cli import LightningCLI

import rmsprop.torch

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's own
QUIET = [f"--trainer.{name}=false" for name in ("logger", "enable_progress_bar", "enable_checkpointing")]
SHORT = [*QUIET, "--trainer.enable_model_summary=false", "--trainer.max_steps=1", "--trainer.accelerator=cpu"]


class Model(lightning.LightningModule):
    """One weight."""

    def __init__(self, width: int = 4):
        super().__init__()
        self.layer = torch.nn.Linear(width, 1)

    def training_step(self, batch, index):
        return self.layer(batch[0]).square().mean()

    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(4, 4)))


def run(*arguments):
    cli = LightningCLI(Model, args=["fit", *SHORT, *arguments], save_config_callback=None)
    return cli.trainer.optimizers[0]


def printed(capsys, *arguments):
    with pytest.raises(SystemExit):
        run(*arguments, "--print_config")
    return yaml.safe_load(capsys.readouterr().out)["optimizer"]


PATH = "--optimizer=rmsprop.torch.RMSprop"


def test_a_training_runs_in_a_dialect():
    group = run(PATH, "--optimizer.lr=0.25", "--optimizer.dialect=tensorflow1").param_groups[0]
    assert (group["lr"], group["dialect"], group["switches"]["init"]) == (0.25, "tensorflow1", "ones")
    assert group["alpha"] == 0.9


def test_the_printed_defaults_written_back_change_nothing(capsys, tmp_path):
    shown = printed(capsys, PATH, "--optimizer.dialect=tensorflow1")
    assert shown["class_path"] == "rmsprop.torch.RMSprop"
    assert {shown["init_args"][name] for name in ("lr", "alpha", "eps", "momentum", "centered", "maximize")} == {None}
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"optimizer": shown}))
    groups = [run(*arguments).param_groups[0] for arguments in ([f"--config={config}"], [PATH, *DIALECT])]
    numbers = [{key: value for key, value in group.items() if key != "params"} for group in groups]
    assert numbers[0] == numbers[1]


DIALECT = ["--optimizer.dialect=tensorflow1"]


def test_the_bare_name_of_two_classes_is_refused_and_the_whole_path_tells_them_apart(capsys):
    with pytest.raises(SystemExit):
        run("--optimizer=RMSprop", *DIALECT)
    assert "Give the full class path" in capsys.readouterr().err
    assert type(run("--optimizer=torch.optim.RMSprop", "--optimizer.lr=0.1")) is torch.optim.RMSprop
    assert type(run(PATH, "--optimizer.lr=0.1")) is rmsprop.torch.RMSprop


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_lightnings_own_clipping_works_in_every_precision_as_with_torchs(precision):
    ends = []
    for cls in (torch.optim.RMSprop, rmsprop.torch.RMSprop):
        lightning.seed_everything(0, verbose=False)
        model = Model()
        model.configure_optimizers = lambda m=model, c=cls: c(m.parameters(), lr=0.01)
        lightning.Trainer(
            precision=precision,
            gradient_clip_val=0.01,
            max_steps=4,
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_checkpointing=False,
            enable_model_summary=False,
        ).fit(model)
        ends.append(model.layer.weight.detach().clone())
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-5, atol=1e-7)


def test_only_a_step_that_clips_takes_the_scale():
    weight = [torch.nn.Parameter(torch.ones(2))]
    assert not rmsprop.torch.RMSprop(weight)._step_supports_amp_scaling
    assert rmsprop.torch.RMSprop(weight, max_norm=1.0)._step_supports_amp_scaling
