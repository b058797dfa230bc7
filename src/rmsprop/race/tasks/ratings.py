"""Film ratings: a factorisation over sparse embeddings, 165,529 parameters.

    rating(u, i) = mean + b_u + c_i + <p_u, q_i>;  loss = mean squared error + DECAY mean of the squares of its terms

A batch touches a few hundred of 9,737 rows, and the embeddings' gradients name those rows alone. Optimizers that refuse
sparse gradients (momentum, Nesterov, Adam, AdamW, Adadelta and torch.optim.RMSprop) are given the same ones dense.

Source of the data: F. M. Harper and J. A. Konstan, The MovieLens Datasets, ACM TiiS 5 (2015); of the model: Y. Koren,
R. Bell and C. Volinsky, Matrix factorization techniques for recommender systems, IEEE Computer 42 (2009).
"""

from __future__ import annotations

import bz2
import dataclasses
import gzip
import hashlib
import lzma
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rmsprop.errors import FileError, MissingDependency
from rmsprop.race import data as sources
from rmsprop.race.task import Budget, Data, Metric, Split
from rmsprop.race.tasks._learner import SplitLearner
from rmsprop.race.tasks._split import split_at_random
from rmsprop.race.tasks._torch import TorchTask, seeded

if TYPE_CHECKING:
    import torch

__all__ = ["TASK", "Factors", "Ratings"]

BATCH = 512
FACTORS = 16
DECAY = 0.02
SPLIT_SEED = 2015
SHARES = (0.8, 0.1, 0.1)
SHORT = 10_000
METRIC = Metric(name="RMSE", better="lower", percent=False, target=0.90)
BUDGET = Budget(epochs=4, seeds=5, tuning_seeds=2, grid=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0))
QUICK = Budget(epochs=2, seeds=2, tuning_seeds=1, grid=(0.01, 1.0))


class Votes(NamedTuple):
    """Users and films, int64, and ratings less their mean, float32; each of shape (n,)."""

    users: torch.Tensor
    films: torch.Tensor
    ratings: torch.Tensor


class Content(NamedTuple):
    """The splits, and how many users and films there are."""

    splits: dict[str, Votes]
    users: int
    films: int


class Factors(SplitLearner):
    """A learner (see `rmsprop.race.task`) over the ratings.

    Args:
        content: Read.
        seed: Of the initial weights and of the order of the batches.
        device: Where it trains.

    Attributes:
        sparse: Whether the embeddings' gradients are.
    """

    def __init__(self, content: Content, seed: int, *, device: str = "cpu") -> None:
        from torch import nn

        with seeded(seed):
            model = nn.ModuleDict(
                {
                    "users": nn.Embedding(content.users, FACTORS + 1, sparse=True),
                    "films": nn.Embedding(content.films, FACTORS + 1, sparse=True),
                }
            )
            for table in model.values():
                nn.init.normal_(table.weight, std=0.05)
        super().__init__(model, content.splits, seed, batch=BATCH, device=device)
        self.sparse = True

    def make_dense(self) -> None:
        """Let the gradients be dense from now on."""
        self.sparse = False
        for table in self.model.values():
            table.sparse = False

    def loss(self, batch: Votes) -> torch.Tensor:
        """Return the mean squared error with the penalty."""
        users, films = self.model["users"](batch.users), self.model["films"](batch.films)
        penalty = users.square().sum(1) + films.square().sum(1)
        return ((_predicted(users, films) - batch.ratings).square() + DECAY * penalty).mean()

    def score(self, split: Split) -> tuple[float, float]:
        """Return the root of the mean squared error, and the mean squared error."""
        part = self._splits[split]
        with self.evaluating():
            users, films = self.model["users"](part.users), self.model["films"](part.films)
            error = float((_predicted(users, films) - part.ratings).square().mean())
        return error**0.5, error


def _predicted(users: Any, films: Any) -> Any:
    return users[:, 0] + films[:, 0] + (users[:, 1:] * films[:, 1:]).sum(1)


@dataclasses.dataclass(frozen=True)
class Ratings(TorchTask):
    """The task; `TASK` is the one instance."""

    name: str = "ratings"
    title: str = "Ratings of films"
    model: str = "16 factors and a bias for each of 671 users and 9,066 films; 165,529 parameters, batch 512"
    source: str = (
        "MovieLens, 100,004 ratings of 9,066 films by 671 people (F. M. Harper and J. A. Konstan, ACM TiiS 5, 2015), "
        "from the Debian package r-cran-dslabs"
    )
    licence: str = "Data: the MovieLens terms of GroupLens: research and teaching, no redistribution"
    notes: tuple[str, ...] = (
        "The embeddings' gradients are sparse. RMSprop, AdaGrad and plain gradient descent take them so, the baselines "
        "in torch's unfused form, as fusing wants dense ones; the other optimizers were given the same gradients "
        "dense.",
        "RMSprop acts on all rows unless told otherwise (lazy=True, another method), so its step holds the work of "
        "spreading the gradients out, which is in the gradients of those who got them dense.",
    )
    threads: int = 1
    metric: Metric = METRIC
    budget: Budget = BUDGET
    quick: Budget = QUICK
    needs: tuple[str, ...] = ("ratings",)

    def load(self) -> Data:
        """Read the ratings and split them 80 : 10 : 10.

        Raises:
            MissingDependency: They are not here, or torch or rdata is not.
            FileError: The file is damaged.
        """
        self.ready()
        import torch

        table = movielens(sources.read("ratings", "Rdata.rdx"), sources.read("ratings", "Rdata.rdb"))
        users, films = (
            np.unique(np.asarray(table[name], np.int64), return_inverse=True) for name in ("userId", "movieId")
        )
        ratings = np.asarray(table["rating"], np.float32)
        parts = split_at_random(len(ratings), SHARES, seed=SPLIT_SEED, keep=SHORT if self.short else None)
        centered = ratings - ratings[parts[0]].mean()
        splits = {
            name: Votes(*(torch.from_numpy(column[part]) for column in (users[1], films[1], centered)))
            for name, part in zip(("train", "valid", "test"), parts, strict=True)
        }
        digest = hashlib.sha256()
        for array in (users[1], films[1], ratings, np.concatenate(parts)):
            digest.update(np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes())
        return Data(
            content=Content(splits, len(users[0]), len(films[0])),
            sizes={name: len(part.ratings) for name, part in splits.items()},
            versions={"torch": torch.__version__},
            fingerprint=digest.hexdigest()[:16],
        )

    def learner(self, data: Data, seed: int) -> Factors:
        """Build the tables with the weights of `seed`."""
        return Factors(data.content, seed, device=self.device)


def movielens(index: bytes, base: bytes) -> Any:
    """Return the data frame `movielens` of R's lazy-load database.

    The index, a compressed RDS, has for each name where its object begins in the base and how long it is. There: four
    bytes with the unpacked length, then zlib; or those four, a letter for the method, and bzip2 or xz.

    Args:
        index: The content of Rdata.rdx.
        base: The content of Rdata.rdb.

    Raises:
        MissingDependency: rdata is not installed.
        FileError: There is no such object, or it cannot be unpacked.
    """
    try:
        import rdata
    except ImportError as error:
        raise MissingDependency.of("rdata", extra="race", purpose="the ratings, a file of R's") from error

    def opened(raw: bytes) -> Any:
        return rdata.conversion.convert(rdata.parser.parse_data(raw, extension=".rds"))

    try:
        offset, length = map(int, opened(gzip.decompress(index))["variables"]["movielens"])
        piece = base[offset : offset + length]
        unpack = {b"2": bz2.decompress, b"Z": lzma.decompress}.get(piece[4:5])
        raw = zlib.decompress(piece[4:]) if unpack is None else unpack(piece[5:])
        return opened(raw)
    except (ValueError, KeyError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise FileError(f"Rdata.rdx and Rdata.rdb of the ratings do not hold movielens: {error}") from error


TASK = Ratings()
