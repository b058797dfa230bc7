"""Minimize f(x, y) = 2 x^2 + 2 x y + 2 y^2 - 6 x, a bowl whose axes are not those of the page.

The start is the column (1, 0), and a column it stays: x0 may have any shape. The minimum is (2, -1); a constant lr of
0.01 ends lr / 2 beside it, at (2.005, -0.995).
"""

import numpy as np

import rmsprop

RULE = rmsprop.Rule(rho=0.9, eps=1e-8, eps_mode="outside")


def f(p):
    x, y = p
    return 2 * x**2 + 2 * x * y + 2 * y**2 - 6 * x


def gradient(p):
    x, y = p
    return np.array([4 * x + 2 * y - 6, 2 * x + 4 * y])


def main():
    run = rmsprop.minimize(f, np.array([[1.0], [0.0]]), jac=gradient, lr=0.01, dialect=RULE, steps=1000)
    print(f"after {run.nit} steps:\n{run.x}\nf = {run.fun:.6f}")
    return run


if __name__ == "__main__":
    main()
