// One RMSprop step over many tensors: the interface of the kernel.
//
// The formula is that of src/rmsprop/rule.py; element.hpp has it, operation for operation that of formula.py. For every
// element, with g the gradient times `scale` (plus `l2` times the parameter):
//
//     square <- rho square + fresh g^2                              uncentered: the mean square
//     e = g - mean;  mean <- mean + fresh e;  square <- rho (square + fresh e^2)       centered: the variance,
//                                             square <- max(square, u g^2)                       u the unit roundoff
//     d = max(sqrt(max(square, var_floor) + eps_inside) + eps_outside, eps_floor)
//     u = g / d (0 where d = 0) + in_buffer * param
//     buffer <- momentum buffer + lr_inside u;   param <- keep param - lr_outside buffer
//
// dtypes    parameters and gradients: float32, float64, bfloat16, float16; statistics: the arithmetic's own type
//           (float64 for float64, else float32), bfloat16, or for `square` alone an 8-bit code (storage.hpp).
// promises  the same bits for every instruction set, thread count and position in the array: no contraction, IEEE
//           division and square root, rounding to nearest, subnormals kept; no allocation, no exception, one pass.
// bytes     per float32 parameter: 20 moved (param, grad, square read; param, square written), 28 centered,
//           8 more with a momentum buffer.
#pragma once
#include <cstddef>
#include <cstdint>

namespace rmsprop {

enum class Dtype : std::uint8_t { float32, float64, bfloat16, float16, code8 };
enum class Rounding : std::uint8_t { nearest, stochastic, compensated };
enum class Isa : std::uint8_t { baseline, avx2, avx512 };

/// Elements that are processed together: the unit of work, and the block of the 8-bit code.
inline constexpr std::ptrdiff_t kBlock = 256;

/// The numbers of one step, shared by the tensors of a call; rounded once to the type of the arithmetic.
struct Numbers {
    double scale;  // of the gradient: clipping, loss scale, and -1 to maximize
    double l2;
    double var_floor;
    double eps_inside;
    double eps_outside;
    double eps_floor;
    double in_buffer;
    double momentum;
    double lr_inside;
    double lr_outside;
    double keep;  // 1 - decoupled weight decay
    bool centered;
    bool buffered;
    bool nesterov;
    bool use_l2;
    bool use_in_buffer;
};

/// One parameter and what belongs to it. Unused pointers are null.
struct Tensor {
    void* param;
    const void* grad;
    void* square;         // mean square, or variance when centered
    void* mean;           // mean gradient, centered only
    void* buffer;         // momentum buffer
    std::uint16_t* lost;  // Rounding::compensated: the bits of the float32 parameter that bfloat16 lost
    float* square_scale;  // Dtype::code8: the value of the largest code of each block
    std::ptrdiff_t size;
    double rho;  // this step's decay, and 1 - decay, which bias correction changes with the step
    double fresh;
    double first;       // 1 at the first corrected centered step, else 0
    std::uint64_t key;  // of the random bits: a function of seed, tensor and step
    Dtype dtype;        // of param and grad
    Dtype state;        // of the statistics
    Rounding rounding;  // of the parameter, 16-bit only
};

/// Do one step on `count` tensors with `threads` threads.
void step(const Tensor* tensors, std::ptrdiff_t count, const Numbers& numbers, int threads) noexcept;

/// Partial sums per tensor that `sum_of_squares` may need.
inline constexpr std::ptrdiff_t kSegments = 64;

/// Return the sum of the squares of all gradients, added in an order that depends on the sizes alone.
/// `partials` has room for kSegments * count doubles.
double sum_of_squares(const Tensor* tensors, std::ptrdiff_t count, double* partials, int threads) noexcept;

/// Whether every gradient element is finite.
bool all_finite(const Tensor& tensor) noexcept;

/// Move the bytes of a plain float32 step and compute next to nothing: the limit that a step is measured against.
void move_bytes(const Tensor* tensors, std::ptrdiff_t count, int threads) noexcept;

/// The best instruction set of this machine that was compiled in.
Isa best_isa() noexcept;
/// Whether this machine can run `isa`.
bool has_isa(Isa isa) noexcept;
Isa current_isa() noexcept;
void set_isa(Isa isa) noexcept;

}  // namespace rmsprop
