"""Minimize a function of a number or an array with RMSprop or a baseline, with SciPy's calling form and result.

Objective and gradient are evaluated at the same point and batch, x[0] to x[steps], so a run of `steps`
steps calls each of them steps + 1 times, and the result's `fun` and `jac` are those of the result's `x`.
"""

from rmsprop.minimize._loop import Status
from rmsprop.minimize._minimize import minimize
from rmsprop.minimize._scipy import scipy_method

__all__ = ["Status", "minimize", "scipy_method"]
