"""Show a run: a picture of one step, an animation of all steps, and the arrays behind both.

    run = rmsprop.minimize(f, x0, jac=f.grad, trace=True)
    rmsprop.view.plot(run.trace, "path.png", function=f)
    rmsprop.view.animate(run.trace, "path.gif", function=f, seconds=4)
    rmsprop.view.animate(run.trace, function=f)            without a path: plays in a notebook
    rmsprop.view.frame(run.trace, 10, function=f)          the picture at step 10, as arrays

Pictures need the extra `lab` (matplotlib, Pillow); the arrays need neither.
"""

from rmsprop.view.figure import Animation, animate, plot
from rmsprop.view.scene import Frame, Scene, frame

__all__ = ["Animation", "Frame", "Scene", "animate", "frame", "plot"]
