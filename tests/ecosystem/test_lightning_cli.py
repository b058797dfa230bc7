"""Promise: Lightning's command line shows and reads the optimizer's arguments."""

from __future__ import annotations

import pytest
import torch
import yaml

import rmsprop.torch

lightning = pytest.importorskip("lightning", reason="lightning is not installed")
pytest.importorskip("jsonargparse", reason="jsonargparse is not installed")
from lightning.pytorch.cli import LightningCLI  # noqa: E402

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]  # Lightning's own warnings
OFF = ("logger", "enable_progress_bar", "enable_checkpointing", "enable_model_summary")
SHORT = [*(f"--trainer.{name}=false" for name in OFF), "--trainer.max_steps=1", "--trainer.accelerator=cpu"]
OURS = ["--optimizer=rmsprop.torch.RMSprop", "--optimizer.dialect=tensorflow1"]


class Model(lightning.LightningModule):
    """One layer."""

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


def test_a_training_runs_in_a_dialect():
    group = run(*OURS, "--optimizer.lr=0.25").param_groups[0]
    assert (group["lr"], group["dialect"], group["switches"]["init"]) == (0.25, "tensorflow1", "ones")
    assert group["alpha"] == 0.9


def test_the_printed_defaults_read_back_change_nothing(capsys, tmp_path):
    with pytest.raises(SystemExit):
        run(*OURS, "--print_config")
    printed = yaml.safe_load(capsys.readouterr().out)["optimizer"]
    assert printed["class_path"] == "rmsprop.torch.RMSprop"
    assert {printed["init_args"][name] for name in ("lr", "alpha", "eps", "momentum", "centered", "maximize")} == {None}
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"optimizer": printed}))
    groups = [run(*arguments).param_groups[0] for arguments in ([f"--config={config}"], OURS)]
    numbers = [{key: value for key, value in group.items() if key != "params"} for group in groups]
    assert numbers[0] == numbers[1]


def test_the_name_of_two_classes_is_an_error_and_the_full_path_is_not(capsys):
    with pytest.raises(SystemExit):
        run("--optimizer=RMSprop", OURS[1])
    assert "Give the full class path" in capsys.readouterr().err
    assert type(run("--optimizer=torch.optim.RMSprop", "--optimizer.lr=0.1")) is torch.optim.RMSprop
    assert type(run(*OURS)) is rmsprop.torch.RMSprop
