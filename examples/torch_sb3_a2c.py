"""Balance CartPole with stable-baselines3's A2C and RMSprop in TensorFlow 1's form, the one A2C was tuned with.

dialect="sb3" is what stable_baselines3's RMSpropTFLike does: mean_sq starts at one and eps stands inside the root.
Solved: a mean return of 450 (of at most 500) over the last 50 episodes, within 150,000 frames.
"""

import numpy as np
import torch
from stable_baselines3 import A2C
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

from rmsprop.torch import RMSprop

EPISODES = 50


class StopWhenSolved(BaseCallback):
    def _on_step(self):
        return not (len(self.model.ep_info_buffer) == EPISODES and mean_return(self.model) >= 450)


def mean_return(model):
    return float(np.mean([episode["r"] for episode in model.ep_info_buffer]))


def make(seed=0, **options):
    torch.set_num_threads(1)  # the network is small
    optimizer = {"dialect": "sb3", "alpha": 0.99, "eps": 1e-5}
    settings = {
        "learning_rate": 5e-3,
        "n_steps": 5,
        "policy_kwargs": {"optimizer_class": RMSprop, "optimizer_kwargs": optimizer},
        "stats_window_size": EPISODES,
        "device": "cpu",
    }
    return A2C("MlpPolicy", make_vec_env("CartPole-v1", n_envs=8, seed=seed), seed=seed, **settings | options)


def main(seed=0, frames=150_000):
    model = make(seed).learn(frames, callback=StopWhenSolved())
    print(f"mean return {mean_return(model):.0f} after {model.num_timesteps:,} frames")
    return mean_return(model), model.num_timesteps


if __name__ == "__main__":
    main()
