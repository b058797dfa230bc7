// Which instruction set, and which thread does what.
//
// All tensors of a call are seen as one row of blocks, cut into one contiguous piece per thread: no schedule, no queue,
// no memory. Every element is computed from its own numbers alone, so the cuts cannot change a bit.
#include "step.hpp"

#include <cmath>
#include <initializer_list>

#include "span.hpp"

namespace rmsprop {
namespace {

Isa g_isa = best_isa();

const Functions& functions() {
    switch (g_isa) {
#if defined(RMSPROP_X86)
        case Isa::avx512: return avx512::functions;
        case Isa::avx2: return avx2::functions;
#endif
        default: return baseline::functions;
    }
}

std::ptrdiff_t blocks_of(std::ptrdiff_t size) { return (size + kBlock - 1) / kBlock; }

/// Call work(tensor, begin, end) for the blocks [first, last) of the row of all tensors' blocks.
template <class Work>
void over_blocks(const Tensor* tensors, std::ptrdiff_t count, std::ptrdiff_t first, std::ptrdiff_t last,
                 const Work& work) {
    std::ptrdiff_t offset = 0;
    for (std::ptrdiff_t k = 0; k < count && offset < last; ++k) {
        const std::ptrdiff_t blocks = blocks_of(tensors[k].size);
        const std::ptrdiff_t from = first > offset ? first - offset : 0;
        const std::ptrdiff_t to = last - offset < blocks ? last - offset : blocks;
        if (from < to) {
            const std::ptrdiff_t end = to * kBlock < tensors[k].size ? to * kBlock : tensors[k].size;
            work(tensors[k], from * kBlock, end);
        }
        offset += blocks;
    }
}

template <class Work>
void in_parallel(const Tensor* tensors, std::ptrdiff_t count, int threads, const Work& work) {
    std::ptrdiff_t total = 0;
    for (std::ptrdiff_t k = 0; k < count; ++k) total += blocks_of(tensors[k].size);
    if (threads > total) threads = static_cast<int>(total);
    if (threads <= 1) {
        over_blocks(tensors, count, 0, total, work);
        return;
    }
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int i = 0; i < threads; ++i) over_blocks(tensors, count, total * i / threads, total * (i + 1) / threads, work);
}

}  // namespace

void step(const Tensor* tensors, std::ptrdiff_t count, const Numbers& numbers, int threads) noexcept {
    const auto run = functions().step;
    in_parallel(tensors, count, threads, [&](const Tensor& tensor, std::ptrdiff_t begin, std::ptrdiff_t end) {
        run(tensor, begin, end, numbers);
    });
}

void move_bytes(const Tensor* tensors, std::ptrdiff_t count, int threads) noexcept {
    in_parallel(tensors, count, threads, functions().move);
}

double sum_of_squares(const Tensor* tensors, std::ptrdiff_t count, double* partials, int threads) noexcept {
    // A tensor's segments depend on its size alone, and their sums are added in order: threads change nothing.
    const auto run = functions().squares;
    const auto segment = [](std::ptrdiff_t size) {
        const std::ptrdiff_t length = (size + kSegments - 1) / kSegments;
        const std::ptrdiff_t least = 64 * kBlock;
        return length < least ? least : blocks_of(length) * kBlock;
    };
#pragma omp parallel for num_threads(threads) schedule(static, 1) if (threads > 1)
    for (std::ptrdiff_t j = 0; j < count * kSegments; ++j) {
        const Tensor& tensor = tensors[j / kSegments];
        const std::ptrdiff_t length = segment(tensor.size);
        const std::ptrdiff_t begin = length * (j % kSegments);
        const std::ptrdiff_t end = begin + length < tensor.size ? begin + length : tensor.size;
        partials[j] = begin < end ? run(tensor, begin, end) : 0.0;
    }
    double sum = 0;
    for (std::ptrdiff_t j = 0; j < count * kSegments; ++j) sum += partials[j];
    return sum;
}

bool all_finite(const Tensor& tensor) noexcept {
    const auto* words16 = static_cast<const std::uint16_t*>(tensor.grad);
    for (std::ptrdiff_t i = 0; i < tensor.size; ++i) {
        bool finite = true;
        switch (tensor.dtype) {
            case Dtype::float32: finite = std::isfinite(static_cast<const float*>(tensor.grad)[i]); break;
            case Dtype::float64: finite = std::isfinite(static_cast<const double*>(tensor.grad)[i]); break;
            case Dtype::bfloat16: finite = (words16[i] & 0x7F80u) != 0x7F80u; break;
            default: finite = (words16[i] & 0x7C00u) != 0x7C00u; break;
        }
        if (!finite) return false;
    }
    return true;
}

bool has_isa(Isa isa) noexcept {
#if defined(RMSPROP_X86)
    switch (isa) {
        case Isa::avx512:
            return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
        case Isa::avx2: return __builtin_cpu_supports("avx2");
        case Isa::baseline: return true;
    }
#endif
    return isa == Isa::baseline;
}

Isa best_isa() noexcept {
    for (Isa isa : {Isa::avx512, Isa::avx2})
        if (has_isa(isa)) return isa;
    return Isa::baseline;
}

Isa current_isa() noexcept { return g_isa; }
void set_isa(Isa isa) noexcept { g_isa = isa; }

}  // namespace rmsprop
