// One call of `_core.step`: every argument checked, then the kernel with the GIL released.
#pragma once
#include <nanobind/nanobind.h>

#include "rule.hpp"

namespace border {

/// Do one step in place and return the global norm of the gradients, or NaN where nothing asked for it.
///
/// `params`, `grads`: lists of arrays; a gradient of None leaves its parameter alone. `buffers`: one list of arrays per
/// name in Rule.buffers, then, for 8-bit states, the block maxima, then, for compensated rounding, the lost bits.
/// `steps`: an int64 array with one count per parameter, or a list of arrays of one number; incremented.
/// `names`: what follows `params` in a message, e.g. "['w']"; None: the position.
double step(const Rule& rule, nanobind::list params, nanobind::list grads, nanobind::tuple buffers,
            nanobind::object steps, const Call& call, nanobind::object names);

/// Refuse parameters and buffers that no step could take.
void check(const Rule& rule, nanobind::list params, nanobind::tuple buffers, nanobind::object names);

/// The global norm of the gradients alone.
double global_norm(nanobind::list grads, int threads);

/// bench/ only: move the bytes of a step.
void move_bytes(nanobind::list params, nanobind::list grads, nanobind::list squares, int threads);

}  // namespace border
