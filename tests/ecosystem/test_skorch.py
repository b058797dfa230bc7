"""Inside skorch: `optimizer=RMSprop`, with its options as `optimizer__...`, and in a grid search."""

from __future__ import annotations

import pytest
import torch
from problem import OPTIMIZERS, assert_close, make_data, make_model, read_weights

from rmsprop.torch import RMSprop

skorch = pytest.importorskip("skorch", reason="skorch is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")


def make_net(cls, **options):
    quiet = {"verbose": 0, "train_split": None, "iterator_train__shuffle": False}
    return skorch.NeuralNetRegressor(
        make_model(), optimizer=cls, lr=1e-2, max_epochs=5, batch_size=16, **quiet, **options
    )


def test_a_net_fits_as_with_torchs_own():
    x, y = make_data()
    theirs, ours = (make_net(cls, optimizer__momentum=0.9).fit(x, y).module_ for cls in OPTIMIZERS)
    assert_close(read_weights(ours), read_weights(theirs), read_weights(make_model()))


def test_an_option_of_this_library_passes_and_can_be_searched():
    from sklearn.model_selection import GridSearchCV

    x, y = make_data()
    net = make_net(RMSprop, optimizer__dialect="tensorflow1")
    search = GridSearchCV(net, {"optimizer__alpha": [0.9, 0.99]}, cv=2, refit=True).fit(x.numpy(), y.numpy())
    optimizer = search.best_estimator_.optimizer_
    assert optimizer.defaults["dialect"] == "tensorflow1"
    assert optimizer.param_groups[0]["alpha"] == search.best_params_["optimizer__alpha"]
    assert torch.isfinite(read_weights(search.best_estimator_.module_)).all()
