// One call of `_core.step`: what has changed is checked, then the kernel runs with the GIL released.
#pragma once
#include <nanobind/nanobind.h>

#include "plan.hpp"

namespace border {

/// Do one step in place and return the global norm of the gradients, NaN where nothing asked for it; None, with nothing
/// changed, where not `strict` and an array of the plan or a gradient is not as the plan needs it.
///
/// `grads`: a list of arrays; a gradient of None leaves its parameter alone.
nanobind::object step(Plan& plan, nanobind::list grads, const Args& args, bool strict);

/// The global norm of the gradients alone.
double global_norm(nanobind::list grads, int threads);

/// bench/ only: move the bytes of a step.
void move_bytes(nanobind::list params, nanobind::list grads, nanobind::list squares, int threads);

}  // namespace border
