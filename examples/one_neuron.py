"""Train one sigmoid neuron on two points with RMSprop and with AdaGrad, from the same start and with the same lr.

The start (-2, -2) lies on a plateau where the gradient is small. AdaGrad divides by the root of the sum of all squared
gradients it ever saw, so its steps only shrink; RMSprop divides by the root of their recent mean, forgets, and keeps
its pace. After 100 steps it has fitted both points, and AdaGrad is still on its way.
"""

import numpy as np

import rmsprop

X, Y = np.array([0.5, 2.5]), np.array([0.2, 0.9])
START = np.array([-2.0, -2.0])


def output(p):
    w, b = p
    return 1 / (1 + np.exp(-(w * X + b)))


def loss(p):
    return 0.5 * np.sum((output(p) - Y) ** 2)


def gradient(p):
    out = output(p)
    delta = (out - Y) * out * (1 - out)
    return np.array([np.sum(delta * X), np.sum(delta)])


def main():
    rule = rmsprop.Rule(rho=0.9, eps=1e-9, eps_mode="inside")
    fast = rmsprop.minimize(loss, START, jac=gradient, lr=0.1, dialect=rule, steps=100, trace=True)
    slow = rmsprop.minimize(loss, START, jac=gradient, lr=0.1, optimizer="adagrad", steps=100, trace=True)
    for name, run in (("RMSprop", fast), ("AdaGrad", slow)):
        rates = run.trace.effective_lr[:, 0]
        print(f"{name}: w, b = {run.x}, loss {run.fun:.2e}; effective lr of w from {rates[0]:.2f} to {rates[-1]:.2f}")
    return fast, slow


if __name__ == "__main__":
    main()
