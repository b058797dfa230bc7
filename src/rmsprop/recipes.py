"""Settings to start from: what a paper or a project trained with, its numbers, and where they are written.

    rmsprop.recipe("dqn-nature")          the row: rule, lr, schedule, clipping, source
    recipes.get("a2c-sb3").rule           the Rule
    recipes.get("steady")                 this library's own: the widest range of learning rates that work

A recipe's rule is what its dialect gives with the settings of that code. The same work in two frameworks is two rows: a
port often changes a number, and where it does the row says so.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable
from typing import Literal

from rmsprop.errors import InputError, RuleError
from rmsprop.rule import Rule

__all__ = ["Recipe", "all", "get", "names", "recipe", "warm_up_linear"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """One setting.

    Attributes:
        name: The key: lower case, hyphens.
        title: What was trained, by whom, in what.
        dialect: The dialect that its code ran: a name of `rmsprop.dialects`.
        rule: The rule, as set in that dialect.
        lr: Its learning rate at the start (after a warm-up, where there is one).
        source: Repository and file, or paper.
        evidence: "S": that source was read; "C": a secondary source, named in `source`; "M": measured by this library.
        aliases: Other names that `get` takes.
        schedule: What lr does over time.
        max_norm: The norm that the gradient is clipped to, in units of grad, or None.
        facts: Batch size, clamping, and what else belongs to the setting.
        notes: What is easily misunderstood about this setting.
    """

    name: str
    title: str
    dialect: str
    rule: Rule
    lr: float
    source: str
    evidence: Literal["S", "C", "M"]
    aliases: tuple[str, ...] = ()
    schedule: str = "constant"
    max_norm: float | None = None
    facts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


_TORCH = Rule(rho=0.99, eps=1e-8, eps_mode="outside")
_TENSORFLOW1 = Rule(rho=0.9, eps=1e-10, eps_mode="inside", init="ones")

_ROWS = {
    row.name: row
    for row in (
        Recipe(
            name="dqn-nature",
            title="DQN on Atari, Nature 2015 (Lua)",
            aliases=("dqn", "dqn-lua"),
            dialect="dqn",
            rule=Rule(rho=0.95, eps=0.01, eps_mode="inside", centered=True),
            lr=2.5e-4,
            source="google-deepmind/dqn, dqn/NeuralQLearner.lua, run_gpu (mirror kuz/DeepMind-Atari-Deep-Q-Learner)",
            evidence="S",
            facts=("batch 32", "an update every 4 actions", "errors clipped to [-1, 1]"),
            notes=(
                "the paper's gradient momentum .95 is the decay of the mean gradient (centered), not a momentum buffer",
                "eps .01 is the paper's min squared gradient: inside the root",
            ),
        ),
        Recipe(
            name="dqn-dopamine",
            title="DQN on Atari, Dopamine (TensorFlow 1)",
            aliases=("dopamine",),
            dialect="tensorflow1",
            rule=_TENSORFLOW1.replace(rho=0.95, eps=1e-5, centered=True),
            lr=2.5e-4,
            source="google/dopamine, dopamine/agents/dqn/configs/dqn_nature.gin",
            evidence="S",
            facts=("batch 32", "an update every 4 actions"),
            notes=(
                "the eps of the Lua code is 1000 times this one",
                "Dopamine's JAX port gives the same numbers to optax, where mean_sq starts at 0, not 1",
            ),
        ),
        Recipe(
            name="dqn-minatar",
            title="DQN on MinAtar (PyTorch)",
            aliases=("minatar",),
            dialect="torch",
            rule=_TORCH.replace(rho=0.95, eps=0.01, centered=True, buffer="unit", momentum=0.95),
            lr=2.5e-4,
            source="kenjyoung/MinAtar, examples/dqn.py",
            evidence="S",
            facts=("batch 32", "an update every frame", "Huber loss"),
            notes=(
                "it reads the paper's gradient momentum as a buffer on top of centering: up to 20 times the step",
                "eps .01 is outside the root here, inside it in the Lua code",
            ),
        ),
        Recipe(
            name="a3c",
            title="A3C on Atari (Chainer reproduction)",
            aliases=("a3c-chainer",),
            dialect="a3c",
            rule=Rule(rho=0.99, eps=0.1, eps_mode="inside"),
            lr=7e-4,
            source="muupan/async-rl, a3c_ale.py (details from the paper's author); V. Mnih et al., arXiv:1602.01783",
            evidence="C",
            max_norm=40.0,
            facts=("statistics shared by all workers", "an update every 5 steps of a worker"),
            notes=("the paper draws lr at random between 1e-4 and 1e-2",),
        ),
        Recipe(
            name="a2c-baselines",
            title="A2C on Atari, OpenAI baselines (TensorFlow 1)",
            aliases=("a2c-openai", "openai-a2c"),
            dialect="tensorflow1",
            rule=_TENSORFLOW1.replace(rho=0.99, eps=1e-5),
            lr=7e-4,
            source="openai/baselines, baselines/a2c/a2c.py",
            evidence="S",
            schedule="linear to 0 over all steps",
            max_norm=0.5,
            facts=("5 steps of every environment for an update", "80 million steps"),
        ),
        Recipe(
            name="a2c-sb3",
            title="A2C, stable-baselines3 (PyTorch)",
            aliases=("a2c", "sb3-a2c"),
            dialect="torch",
            rule=_TORCH.replace(eps=1e-5),
            lr=7e-4,
            source="DLR-RM/stable-baselines3, stable_baselines3/a2c/a2c.py",
            evidence="S",
            max_norm=0.5,
            facts=("5 steps of every environment for an update",),
            notes=(
                "eps is outside the root, in baselines inside; the dialect 'sb3' is the one that follows baselines",
            ),
        ),
        Recipe(
            name="impala-tf",
            title="IMPALA, DeepMind's scalable agent (TensorFlow 1)",
            aliases=("impala", "scalable-agent"),
            dialect="tensorflow1",
            rule=_TENSORFLOW1.replace(rho=0.99, eps=0.1),
            lr=4.8e-4,
            source="google-deepmind/scalable_agent, experiment.py",
            evidence="S",
            schedule="linear to 0 over all environment frames",
            facts=("batch 2", "unroll 100", "momentum 0", "no clipping"),
        ),
        Recipe(
            name="impala-torchbeast",
            title="IMPALA, torchbeast (PyTorch)",
            aliases=("torchbeast",),
            dialect="torch",
            rule=_TORCH.replace(eps=0.01),
            lr=4.8e-4,
            source="facebookresearch/torchbeast, torchbeast/monobeast.py",
            evidence="S",
            schedule="linear to 0 over all steps",
            max_norm=40.0,
            facts=("batch 8", "unroll 80", "momentum 0"),
            notes=("eps is .01 outside the root, in the original .1 inside it, which is .316 where mean_sq is small",),
        ),
        Recipe(
            name="pymarl",
            title="PyMARL: QMIX, VDN, COMA (PyTorch)",
            aliases=("qmix",),
            dialect="torch",
            rule=_TORCH.replace(eps=1e-5),
            lr=5e-4,
            source="oxwhirl/pymarl, src/config/default.yaml",
            evidence="S",
            max_norm=10.0,
            facts=("batch of 32 episodes",),
        ),
        Recipe(
            name="efficientnet-tf",
            title="EfficientNet on ImageNet, the original (TensorFlow 1)",
            aliases=("efficientnet-tpu",),
            dialect="tensorflow1",
            rule=_TENSORFLOW1.replace(eps=1e-3, buffer="lr", momentum=0.9),
            lr=0.128,
            source="tensorflow/tpu, models/official/efficientnet/main.py, utils.py",
            evidence="S",
            schedule="5 epochs of warm-up, then times .97 every 2.4 epochs",
            facts=("batch 2048: .016 for each 256", "weight decay 1e-5 added to the loss, not to batch normalization"),
            notes=(
                "the decay is in the loss there; in the rule it is replace(weight_decay=1e-5, weight_decay_mode='l2')",
            ),
        ),
        Recipe(
            name="efficientnet-timm",
            title="EfficientNet-B0 on ImageNet, timm (PyTorch)",
            aliases=("efficientnet",),
            dialect="timm",
            rule=_TENSORFLOW1.replace(eps=1e-3, buffer="lr", momentum=0.9, weight_decay=1e-5, weight_decay_mode="l2"),
            lr=0.048,
            source="huggingface/pytorch-image-models, training examples: EfficientNet-B0 with RandAugment (quoted)",
            evidence="C",
            schedule="warm-up from 1e-6, then times .97 every 2.4 epochs",
            facts=("batch 768 (2 x 384)", "450 epochs"),
            notes=("momentum .9 is the training script's default, taken from the project's documents",),
        ),
        Recipe(
            name="mobilenetv3-timm",
            title="MobileNetV3-Large on ImageNet, timm (PyTorch)",
            dialect="timm",
            rule=_TENSORFLOW1.replace(eps=1e-3, buffer="lr", momentum=0.9, weight_decay=1e-5, weight_decay_mode="l2"),
            lr=0.064,
            source="huggingface/pytorch-image-models, training examples: MobileNetV3-Large-100 (quoted)",
            evidence="C",
            aliases=("mobilenetv3",),
            schedule="warm-up from 1e-6, then times .973 every 2.4 epochs",
            facts=("batch 1024 (2 x 512)", "600 epochs"),
        ),
        Recipe(
            name="mobilenetv3-torchvision",
            title="MobileNetV3 on ImageNet, torchvision reference (PyTorch)",
            aliases=("torchvision",),
            dialect="torch",
            rule=_TORCH.replace(
                rho=0.9, eps=0.0316, buffer="unit", momentum=0.9, weight_decay=1e-5, weight_decay_mode="l2"
            ),
            lr=0.064,
            source="pytorch/vision, references/classification/train.py, README.md (lr and schedule quoted)",
            evidence="C",
            schedule="times .973 every 2 epochs",
            facts=("batch 1024 (8 x 128)", "600 epochs"),
            notes=(
                "eps .0316 is sqrt(.001), TensorFlow's eps carried outside the root by hand: right only where mean_sq "
                "is 0, 17 % away from TensorFlow 1 after 200 steps",
            ),
        ),
        Recipe(
            name="inception-v3",
            title="Inception v3 on ImageNet (TensorFlow 1)",
            aliases=("inception",),
            dialect="tensorflow1",
            rule=_TENSORFLOW1.replace(eps=1.0, buffer="lr", momentum=0.9),
            lr=0.1,
            source="tensorflow/models, research/inception/inception/inception_train.py",
            evidence="S",
            schedule="times .16 every 30 epochs",
            facts=("batch 256",),
            notes=(
                "eps 1 dominates wherever |grad| is below 1: this is nearly gradient descent with momentum",
                "its eps and mean_sq's start at 1 together keep the first steps short",
            ),
        ),
        Recipe(
            name="wgan",
            title="Wasserstein GAN (PyTorch)",
            dialect="torch",
            rule=_TORCH,
            lr=5e-5,
            source="martinarjovsky/WassersteinGAN, main.py",
            evidence="S",
            facts=("batch 64", "critic's weights clamped to [-.01, .01]", "5 critic steps for one of the generator"),
            notes=("the same settings for critic and generator",),
        ),
        Recipe(
            name="dpo",
            title="Direct preference optimization (PyTorch)",
            dialect="torch",
            rule=_TORCH,
            lr=5e-7,
            source="eric-mitchell/direct-preference-optimization, config/config.yaml",
            evidence="S",
            schedule="150 steps of linear warm-up, then constant",
            max_norm=10.0,
            notes=("chosen there because it works about as well as Adam and needs less memory",),
        ),
        Recipe(
            name="graves-2013",
            title="Handwriting and text with recurrent networks, Graves 2013",
            aliases=("graves", "graves2013"),
            dialect="graves2013",
            rule=Rule(rho=0.95, eps=1e-4, eps_mode="inside", centered=True, buffer="lr", momentum=0.9),
            lr=1e-4,
            source="A. Graves, arXiv:1308.0850, constants as in Chainer and the MXNet documentation",
            evidence="C",
        ),
        Recipe(
            name="keras-default",
            title="Keras compile(optimizer='rmsprop')",
            aliases=("keras",),
            dialect="keras3",
            rule=Rule(rho=0.9, eps=1e-7, eps_mode="inside"),
            lr=1e-3,
            source="keras-team/keras, keras/src/optimizers/rmsprop.py, 3.15.1",
            evidence="S",
        ),
        Recipe(
            name="steady",
            title="The widest range of learning rates that work, over this library's benchmarks",
            aliases=("calm",),
            dialect="optax",
            rule=Rule(rho=0.9, bias_correction=True),
            lr=0.02,
            source="bench/steady.py, docs/why/steady.md",
            evidence="M",
            schedule="warm_up_linear: up over the first 100 steps, then linear to 0 over all steps",
            notes=(
                "the schedule widens the range; without it this is plain RMSprop, and 0.02 is mostly too large",
                "lr is a starting point: the best was 0.006 to 0.1, and 0.3 in a training of 400 steps",
                "not for reinforcement learning, where the decreasing rate was worse",
            ),
        ),
    )
}
_ALIASES = {alias: row.name for row in _ROWS.values() for alias in row.aliases}


def get(name: str, /) -> Recipe:
    """Return the recipe of a name or alias.

    Raises:
        RuleError: An unknown name; the message suggests the nearest.

    Example:
        >>> from rmsprop import recipes
        >>> row = recipes.get("a2c-sb3")
        >>> row.rule, row.lr, row.max_norm
        (Rule(rho=0.99, eps=1e-05, eps_mode='outside'), 0.0007, 0.5)
    """
    if not isinstance(name, str):
        raise RuleError(f"recipe {name!r}, expected a name: see rmsprop.recipes.names()")
    key = name.strip().lower().replace("_", "-").replace(" ", "-")
    key = _ALIASES.get(key, key)
    if key not in _ROWS:
        close = difflib.get_close_matches(key, [*_ROWS, *_ALIASES], n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"expected one of {', '.join(_ROWS)}"
        raise RuleError(f"unknown recipe {name!r}, {hint}")
    return _ROWS[key]


recipe = get
"""The same as `get`, for `rmsprop.recipe`."""


def warm_up_linear(steps: int, *, warm_up: int = 100) -> Callable[[int], float]:
    """Return the schedule of the recipe "steady": what lr is multiplied by at each step.

    min(1, (t + 1) / warm_up) (1 - (t + 1) / (steps + 1)), where t counts from 0; 0 after the last step.

    Args:
        steps: Of the whole training, at least 1.
        warm_up: Over how many steps lr rises; 0: at once.

    Raises:
        InputError: No step, or a negative warm-up.

    Example:
        >>> import numpy as np, rmsprop
        >>> from rmsprop.recipes import warm_up_linear
        >>> row, factor = rmsprop.recipe("steady"), warm_up_linear(399)
        >>> [round(factor(t), 4) for t in (0, 99, 199, 398, 399)]
        [0.01, 0.75, 0.5, 0.0025, 0.0]
        >>> x = np.ones(3)
        >>> optimizer = rmsprop.RMSprop(x, dialect=row.rule, lr=lambda t: row.lr * factor(t))

    In torch it is what torch.optim.lr_scheduler.LambdaLR takes, in JAX `lambda t: lr * factor(t)` needs jnp.minimum:
    optax.join_schedules of two linear_schedules is the same.
    """
    if steps < 1 or warm_up < 0:
        raise InputError(f"steps={steps}, warm_up={warm_up}, expected at least one step and no negative warm-up")

    def factor(t: int) -> float:
        return min(1.0, (t + 1) / max(1, warm_up)) * max(0.0, 1.0 - (t + 1) / (steps + 1))

    return factor


def names() -> tuple[str, ...]:
    """Return the name of every recipe.

    Example:
        >>> from rmsprop import recipes
        >>> recipes.names()[0]
        'dqn-nature'
    """
    return tuple(_ROWS)


def all() -> tuple[Recipe, ...]:
    """Return every recipe, in the order of `names`."""
    return tuple(_ROWS.values())
