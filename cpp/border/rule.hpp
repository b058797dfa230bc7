// What a call of the step is given beside its arrays.
#pragma once
#include <cstdint>

#include "../kernel/rule.hpp"

namespace border {

using rmsprop::Rule;

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
