"""optax.rmsprop's place taken, and the same run by TensorFlow 1's rule, in one jitted loop each."""

import jax
import jax.numpy as jnp
import optax

import rmsprop.jax


def loss(weights, inputs, targets):
    return jnp.mean((jnp.tanh(inputs @ weights["hidden"]) @ weights["out"] - targets) ** 2)


def train(tx, steps=200):
    keys = jax.random.split(jax.random.key(0), 3)
    weights = {"hidden": 0.5 * jax.random.normal(keys[0], (3, 16)), "out": 0.5 * jax.random.normal(keys[1], (16, 1))}
    inputs = jax.random.normal(keys[2], (128, 3))
    targets = jnp.sin(inputs.sum(axis=1, keepdims=True))

    def step(carry, _):
        weights, state = carry
        value, grads = jax.value_and_grad(loss)(weights, inputs, targets)
        updates, state = tx.update(grads, state, weights)
        return (optax.apply_updates(weights, updates), state), value

    _, losses = jax.jit(lambda carry: jax.lax.scan(step, carry, length=steps))((weights, tx.init(weights)))
    return losses


def main():
    lr = optax.cosine_decay_schedule(0.01, 200)
    runs = {
        "optax.rmsprop": train(optax.rmsprop(lr)),
        "rmsprop.jax": train(rmsprop.jax.rmsprop(lr)),
        "dialect tensorflow1": train(rmsprop.jax.rmsprop(lr, dialect="tensorflow1")),
    }
    for name, losses in runs.items():
        print(f"{name:22} loss {losses[0]:.4f} -> {losses[-1]:.4f}")
    return runs


if __name__ == "__main__":
    main()
