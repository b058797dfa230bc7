"""Balance CartPole with stable-baselines3's A2C and TensorFlow 1's RMSprop, with which A2C was tuned.

dialect="sb3" is stable_baselines3's RMSpropTFLike: mean_sq starts at 1, and eps is inside the root.
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
        return not (len(self.model.ep_info_buffer) == EPISODES and compute_mean_return(self.model) >= 450)


def compute_mean_return(model):
    return float(np.mean([episode["r"] for episode in model.ep_info_buffer]))


def make_model(seed=0, **options):
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
    model = make_model(seed).learn(frames, callback=StopWhenSolved())
    mean_return = compute_mean_return(model)
    print(f"mean return {mean_return:.0f} after {model.num_timesteps:,} frames")
    return mean_return, model.num_timesteps


if __name__ == "__main__":
    main()
