// What a launch of the grid is given. The table stays on the device; a `Launch` is the kernel's argument.
#pragma once
#include <cstdint>

#include "../kernel/rule.hpp"
#include "../kernel/step.hpp"

namespace rmsprop {

/// Blocks of kBlock elements that one block of the grid steps.
inline constexpr std::uint32_t kChunkBlocks = 32;
inline constexpr std::uint32_t kChunk = kChunkBlocks * kBlock;
/// Tensors of one launch: as many as 4096 bytes of arguments, what every driver takes, have room for.
inline constexpr std::uint32_t kRows = 192;

/// One tensor of a table. Its gradient and moment are those of a launch.
struct Row {
    Tensor tensor;
    std::uint64_t place;        // of the parameter among all of the optimizer, for the random bits
    std::uint32_t first_chunk;  // of the tensor in the table
};

/// A number that is known when the kernel is launched, or lies on the device.
struct Number {
    double value;
    const void* at;  // null: `value`
    bool wide;       // float64, else float32

    double read() const {
        if (at == nullptr) return value;
        return wide ? *static_cast<const double*>(at) : static_cast<double>(*static_cast<const float*>(at));
    }
};

struct Launch {
    Rule rule;
    Number lr, lr_max, grad_scale, found_inf;
    double scale, max_norm, norm_eps;
    double* norm;  // of all gradients, where max_norm > 0; written by the kernel of that name
    std::uint64_t seed;
    std::uint32_t first_row;  // of this launch
    std::uint32_t first_chunk;
    std::uint32_t chunks;  // of the table: all launches of a step together
    const void* grad[kRows];
    double fresh[kRows];
    std::uint32_t step[kRows];
};
static_assert(sizeof(Launch) + 2 * sizeof(void*) <= 4096, "more than a kernel's arguments may take");

}  // namespace rmsprop
