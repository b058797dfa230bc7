"""Promise: LightningCLI shows, writes and reads the optimizer's arguments; a written-back None changes nothing."""

from __future__ import annotations

import pytest
import yaml

import rmsprop

torch = pytest.importorskip("torch", reason="torch is not installed")
lightning = pytest.importorskip("lightning", reason="lightning is not installed")
pytest.importorskip("jsonargparse", reason="jsonargparse is not installed")
from lightning.pytorch.cli import LightningCLI  # noqa: E402

import rmsprop.torch  # noqa: E402

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
