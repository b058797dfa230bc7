"""Film ratings: a matrix factorization with sparse embeddings.

    rating(u, i) = mean + b_u + c_i + <p_u, q_i>;  loss = mean squared error + DECAY mean of the squares of its terms

A batch uses a few hundred of 9,737 rows, and the embeddings' gradients are sparse. Optimizers without sparse gradients
(momentum, Nesterov, Adam, AdamW, Adadelta and torch.optim.RMSprop) get the same gradients dense.

Source of the data: F. M. Harper and J. A. Konstan, The MovieLens Datasets, ACM TiiS 5 (2015); of the model: Y. Koren,
R. Bell and C. Volinsky, Matrix factorization techniques for recommender systems, IEEE Computer 42 (2009).
"""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from rmsprop.race import data
from rmsprop.race.task import Data, Split, TorchTask, import_package
from rmsprop.race.tasks._learner import TorchLearner, make_torch_data, split_arrays
from rmsprop.race.tasks._split import split_at_random

FACTORS = 16
DECAY = 0.02
SPLIT_SEED = 2015
SHORT = 10_000


class Ratings(NamedTuple):
    """Users and films, int64, and ratings minus their mean, float32; each of shape (n,)."""

    users: Tensor
    films: Tensor
    ratings: Tensor


class Learner(TorchLearner):
    """A learner of ratings."""

    batch = 512
    sparse = True  # the embeddings' gradients

    def build(self, spec: tuple[int, int]) -> nn.Module:
        users, films = (nn.Embedding(rows, FACTORS + 1, sparse=True) for rows in spec)
        for table in (users, films):
            nn.init.normal_(table.weight, std=0.05)
        return nn.ModuleDict({"users": users, "films": films})

    def make_dense(self) -> None:
        """Make the gradients dense from now on."""
        self.sparse = False
        for table in self.model.values():
            table.sparse = False

    def loss(self, batch: Ratings) -> Tensor:
        users, films, error = self._compute_error(batch)
        return (error + DECAY * (users.square().sum(1) + films.square().sum(1))).mean()

    def evaluate(self, split: Split) -> tuple[float, float]:
        """Return the root of the mean squared error, and the mean squared error."""
        error = float(self._compute_error(self._splits[split])[2].mean())
        return error**0.5, error

    def _compute_error(self, batch: Ratings) -> tuple[Tensor, Tensor, Tensor]:
        users, films = self.model["users"](batch.users), self.model["films"](batch.films)
        predictions = users[:, 0] + films[:, 0] + (users[:, 1:] * films[:, 1:]).sum(1)
        return users, films, (predictions - batch.ratings).square()


def load(task: TorchTask) -> Data:
    """Read the ratings and split them 80 : 10 : 10."""
    table = read_movielens()
    (user_ids, users), (film_ids, films) = (
        np.unique(np.asarray(table[name], np.int64), return_inverse=True) for name in ("userId", "movieId")
    )
    ratings = np.asarray(table["rating"], np.float32)
    parts = split_at_random(len(ratings), (0.8, 0.1, 0.1), seed=SPLIT_SEED, keep=SHORT if task.short else None)
    centered = ratings - ratings[parts["train"]].mean()
    splits = split_arrays(Ratings, (users, films, centered), parts)
    arrays: list[Any] = [users, films, ratings, *parts.values()]
    digest_of = [array.astype(array.dtype.newbyteorder("<")).tobytes() for array in arrays]
    return make_torch_data(splits, digest_of, spec=(len(user_ids), len(film_ids)))


def read_movielens() -> Any:
    """Return the data frame `movielens` of R's lazy-load database."""
    rdata = import_package("rdata", extra="race", purpose="the ratings, an R data file")

    def parse(raw: bytes) -> Any:
        return rdata.conversion.convert(rdata.parser.parse_data(raw, extension=".rds"))

    # The index says where an object is in the base: four bytes with the unpacked length, then zlib.
    offset, length = map(int, parse(data.read("ratings", "Rdata.rdx"))["variables"]["movielens"])
    return parse(zlib.decompress(data.read("ratings", "Rdata.rdb")[offset + 4 : offset + length]))
