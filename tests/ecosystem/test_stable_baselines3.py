"""Inside stable-baselines3: A2C trains as with its own RMSprop."""

from __future__ import annotations

import pytest
from problem import assert_close, read_weights

from example_programs import load_example


@pytest.fixture
def a2c():
    return load_example("torch_sb3_a2c", "stable_baselines3")


@pytest.mark.slow
def test_a2c_balances_the_pole_within_150_000_frames(a2c):
    mean_return, frames = a2c.main(seed=0)
    assert mean_return >= 450
    assert frames <= 150_000


def test_a2c_trains_as_with_stable_baselines3s_own_rmsprop(a2c):
    from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike

    theirs = {"optimizer_class": RMSpropTFLike, "optimizer_kwargs": {"alpha": 0.99, "eps": 1e-5}}
    models = [a2c.make_model(0), a2c.make_model(0).learn(1280), a2c.make_model(0, policy_kwargs=theirs).learn(1280)]
    start, ours, expected = (read_weights(model.policy) for model in models)
    assert_close(ours, expected, start, atol=1e-5)
