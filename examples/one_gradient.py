"""One step of RMSprop, by hand and by the library.

theta = [0.2, 0.4, 0.6] receives the gradient [-0.5, 0.3, 0.24]. The gradients differ, the moves do not: every element
moves by lr / sqrt(1 - rho) = 0.0316 against the sign of its gradient, because RMSprop divides the gradient by its own
root mean square, and after one step that is sqrt(1 - rho) times its size.
"""

import numpy as np

import rmsprop

LR, RHO, EPS = 0.01, 0.9, 1e-8


def by_hand(theta, grad):
    mean_sq = (1 - RHO) * grad**2
    return theta - LR * grad / np.sqrt(mean_sq + EPS)


def by_library(theta, grad):
    theta = theta.copy()
    rmsprop.RMSprop(theta, lr=LR, dialect=rmsprop.Rule(rho=RHO, eps=EPS, eps_mode="inside")).step(grad)
    return theta


def main():
    theta, grad = np.array([0.2, 0.4, 0.6]), np.array([-0.5, 0.3, 0.24])
    print("by hand   ", by_hand(theta, grad))
    print("by library", by_library(theta, grad))
    return by_library(theta, grad)


if __name__ == "__main__":
    main()
