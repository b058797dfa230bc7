"""Walk down f(x) = x - x^3 from x = -1 to its minimum at -1 / sqrt(3) = -0.57735, and see what constant lr does.

x comes near the minimum in 57 steps and nearer still while the mean square remembers the steep slopes of the way. Then
it forgets them: the smaller the slopes, the larger lr / sqrt(mean_sq), until the steps overshoot and throw x out again.
In the end x swings around the minimum by lr / 2 = 0.005 for ever. That is why the last point after 1000 steps is
-0.58233. A falling lr comes to rest.
"""

import rmsprop

RULE = rmsprop.Rule(rho=0.9, eps=1e-8, eps_mode="outside")
MINIMUM = -(3**-0.5)


def f(x):
    return x - x**3


def slope(x):
    return 1 - 3 * x * x


def main():
    run = rmsprop.minimize(f, -1.0, jac=slope, lr=0.01, dialect=RULE, steps=1000, trace=True)
    away = abs(run.trace.x[:, 0] - MINIMUM)
    arrived = int((away < 0.01).argmax())
    print(f"lr = 0.01:   within 0.01 of the minimum at step {arrived}, thrown out to {away[arrived:].max():.4f} later,")
    print(f"             x = {float(run.x)!r} after 1000 steps")
    falling = rmsprop.minimize(f, -1.0, jac=slope, lr=lambda step: 0.01 * 0.99**step, dialect=RULE, steps=1000)
    print(f"falling lr:  x = {float(falling.x)!r}, the minimum is {MINIMUM!r}")
    return run, falling


if __name__ == "__main__":
    main()
