// One call of `_core.step`: every argument checked, then the kernel with the GIL released.
#pragma once
#include <nanobind/nanobind.h>

#include <cstdint>
#include <string>

#include "../kernel/step.hpp"

namespace border {

/// The switches of `rmsprop.Rule`, as the kernel wants them.
struct Rule {
    double rho, eps, var_floor, momentum, weight_decay;
    enum class Eps : std::uint8_t { outside, inside, max } eps_mode;
    enum class Buffer : std::uint8_t { none, unit, lr } buffer;
    enum class Decay : std::uint8_t { none, l2, decoupled, decoupled_corrected, in_buffer } decay;
    bool centered, bias_correction, nesterov, maximize;
    rmsprop::Rounding rounding = rmsprop::Rounding::nearest;

    /// The arrays kept per parameter, those of rmsprop.Rule.buffers.
    int buffers() const { return (centered ? 2 : 1) + (buffer == Buffer::none ? 0 : 1); }
    rmsprop::Numbers numbers(double lr, double lr_max, double grad_scale) const;
};

/// What changes from step to step.
struct Call {
    double lr;
    double lr_max;      // largest lr so far
    double grad_scale;  // multiplies every gradient
    double max_norm;    // clip the gradients to this global norm; 0: no clipping
    double norm_eps;    // added to the norm in the clip factor, as torch does
    bool check_finite;  // refuse gradients with NaN or infinity
    int threads;        // 0: the default
    std::uint64_t seed;
    std::uint64_t first;  // this call's first tensor among all tensors of the optimizer, for the random bits
};

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

void set_threads(int threads);
int threads();

[[noreturn]] void refuse(const char* error_class, const std::string& message);

}  // namespace border
