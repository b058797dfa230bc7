"""What the tests of the pictures' contents share: a run on a surface, traced."""

from rmsprop import landscapes, minimize

RAVINE = landscapes.get("ravine")


def run(optimizer=None, *, f=RAVINE, start=(-5.0, -2.0), lr=0.4, steps=20, **options):
    gradient = f.gradient if hasattr(f, "gradient") else f.grad
    return minimize(f, list(start), jac=gradient, lr=lr, steps=steps, optimizer=optimizer, trace=True, **options).trace
