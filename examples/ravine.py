"""Walk along a ravine: f = 0.1 x1^2 + 2 x2^2 from (-5, -2), twenty steps of lr 0.4.

The slope across the ravine is twenty times that along it. Gradient descent with the same lr follows the slope: across
it overshoots and along it creeps. RMSprop divides each gradient by its own size, and both coordinates arrive.
"""

import numpy as np

import rmsprop

START = np.array([-5.0, -2.0])


def f(x):
    return 0.1 * x[0] ** 2 + 2 * x[1] ** 2


def gradient(x):
    return np.array([0.2 * x[0], 4 * x[1]])


def main():
    rule = rmsprop.Rule(rho=0.9, eps=1e-6, eps_mode="inside")
    run = rmsprop.minimize(f, START, jac=gradient, lr=0.4, dialect=rule, steps=20)
    plain = rmsprop.minimize(f, START, jac=gradient, lr=0.4, optimizer="gradient_descent", steps=20)
    print(f"RMSprop:          x1 = {run.x[0]:.4f}, x2 = {run.x[1]:.4f}")
    print(f"gradient descent: x1 = {plain.x[0]:.4f}, x2 = {plain.x[1]:.4f}")
    return run, plain


if __name__ == "__main__":
    main()
