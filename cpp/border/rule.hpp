// What a step is asked to do, as plain numbers.
#pragma once
#include <cstdint>

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

/// What changes from step to step: the attributes of rmsprop._step.StepArgs.
struct Args {
    double lr;
    double lr_max;      // largest lr so far
    double scale;       // multiplies every gradient
    double max_norm;    // clip the gradients to this global norm; 0: no clipping
    double norm_eps;    // added to the norm in the clip factor, as torch does
    bool check_finite;  // refuse gradients with NaN or infinity
    std::uint64_t seed;
    int threads;  // 0: the default
};

}  // namespace border
