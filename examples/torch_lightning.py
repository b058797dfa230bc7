"""Use RMSprop in a LightningModule: `configure_optimizers` returns it, here with a scheduler.

With precision="bf16-mixed" or "16-mixed", clip with the optimizer's `max_norm` and not with the Trainer's
`gradient_clip_val`: with `max_norm` the optimizer divides by the loss scale itself, and Lightning then raises an error
for `gradient_clip_val`.
"""

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from rmsprop.torch import RMSprop


class Regression(lightning.LightningModule):
    def __init__(self, optimizer_class=RMSprop, **options):
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
        self.optimizer_class, self.options = optimizer_class, options
        self.losses = []

    def training_step(self, batch, _):
        x, y = batch
        loss = nn.functional.mse_loss(self.model(x), y)
        self.losses.append(float(loss.detach()))
        return loss

    def configure_optimizers(self):
        optimizer = self.optimizer_class(self.parameters(), lr=2e-3, **self.options)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)]


def load_data():
    random = torch.Generator().manual_seed(1)
    x = torch.randn(256, 8, generator=random)
    return DataLoader(TensorDataset(x, x.square().sum(1, keepdim=True)), batch_size=32)


def make_trainer(**options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return lightning.Trainer(
        **{"max_epochs": 4, "accelerator": "cpu", "enable_checkpointing": False, **quiet, **options}
    )


def main(**options):
    module = Regression(max_norm=50.0)
    make_trainer(**options).fit(module, load_data())
    print(f"loss {module.losses[0]:.1f} -> {module.losses[-1]:.1f} in {len(module.losses)} steps")
    return module


if __name__ == "__main__":
    main()
