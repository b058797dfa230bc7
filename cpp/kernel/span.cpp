// The arithmetic, compiled once per instruction set (CMakeLists.txt defines RMSPROP_ISA_NAMESPACE and the flags).
//
// The loops are plain C++ that the compiler turns into vector code: one source for every instruction set, around the
// formula of element.hpp.
#include "span.hpp"

#include <type_traits>

#include "element.hpp"
#include "ieee.hpp"
#include "narrow.hpp"
#include "storage.hpp"

namespace rmsprop {
namespace RMSPROP_ISA_NAMESPACE {
namespace {

/// One step on a block of n elements; `mean` only when Centered, `buffer` only when Buffered, `lost` only for a
/// compensated Param. Positions are 32-bit, of which the random bits are made: half as many vectors as of 64.
template <class T, bool Centered, bool Buffered, bool Plain, class Param, class State>
inline void step_block(typename Param::Stored* __restrict param, const typename Param::Stored* __restrict grad,
                       typename State::Square::Stored* __restrict square,
                       typename State::Signed::Stored* __restrict mean,
                       typename State::Signed::Stored* __restrict buffer, u16* __restrict lost, i32 n,
                       const Rounded<T> c, const Keys keys) {
    for (i32 i = 0; i < n; ++i) {
        u16 rest = 0;
        if constexpr (Param::kCompensated) rest = lost[i];
        Element<T> e{};
        e.param = Param::load(param[i], rest);
        e.square = State::Square::load(square[i], 0);
        if constexpr (Centered) e.mean = State::Signed::load(mean[i], 0);
        if constexpr (Buffered) e.buffer = State::Signed::load(buffer[i], 0);
        step_element<T, Centered, Buffered, Plain>(e, Param::wide(grad[i]), c);
        square[i] = narrow<typename State::Square>(e.square, keys.square, static_cast<u32>(i), rest);
        if constexpr (Centered) mean[i] = narrow<typename State::Signed>(e.mean, keys.mean, static_cast<u32>(i), rest);
        if constexpr (Buffered)
            buffer[i] = narrow<typename State::Signed>(e.buffer, keys.buffer, static_cast<u32>(i), rest);
        param[i] = narrow<Param>(e.param, keys.param, static_cast<u32>(i), rest);
        if constexpr (Param::kCompensated) lost[i] = rest;
    }
}

/// The bits of the largest finite of n floats that are not negative: they order like the floats.
inline u32 largest_finite(const float* x, i32 n) {
    u32 largest = 0;
    for (i32 i = 0; i < n; ++i) {
        const u32 b = bits_of(x[i]) & 0x7FFFFFFFu;
        largest = greater(largest, b < 0x7F800000u ? b : 0u);
    }
    return largest;
}

/// As above where the squares are codes, whose base is known once all statistics are: one pass for these, and one for
/// the parameters and the codes, which share their random bits.
template <bool Centered, bool Buffered, bool Plain, class Param>
inline void step_coded_block(typename Param::Stored* __restrict param, const typename Param::Stored* __restrict grad,
                             std::uint8_t* __restrict square, float* __restrict scale, u16* __restrict mean,
                             u16* __restrict buffer, u16* __restrict lost, i32 n, const Rounded<float> c,
                             const Keys keys) {
    using Signed = Code8State::Signed;
    float grads[kBlock], squares[kBlock], seen[kBlock];  // in the fastest cache
    u32 codes[kBlock];  // bytes are widened and narrowed apart: beside the arithmetic they would set the vectors' width
    for (i32 i = 0; i < n; ++i) codes[i] = square[i];
    const u32 before = base8(bits_of(*scale));
    u32 largest = 0;
    for (i32 i = 0; i < n; ++i) {
        u16 rest = 0;
        Element<float> e{};
        if constexpr (Param::kCompensated && !Plain) rest = lost[i];
        if constexpr (!Plain) e.param = Param::load(param[i], rest);
        if constexpr (Centered) e.mean = Signed::load(mean[i], 0);
        e.square = decode8(codes[i], before);
        grads[i] = limit_grad<float, Plain>(Param::wide(grad[i]), e.param, c);
        seen[i] = update_statistics<float, Centered, Plain>(e, grads[i], c);
        squares[i] = e.square;
        largest = greater(largest, bits_of(e.square));
        if constexpr (Centered) mean[i] = narrow<Signed>(e.mean, keys.mean, static_cast<u32>(i), rest);
    }
    if (largest >= 0x7F800000u) largest = largest_finite(squares, n);
    const u32 base = base8(largest);
    *scale = scale8(base);
    for (i32 i = 0; i < n; ++i) {
        u16 rest = 0;
        if constexpr (Param::kCompensated) rest = lost[i];
        Element<float> e{};
        e.param = Param::load(param[i], rest);
        if constexpr (Buffered) e.buffer = Signed::load(buffer[i], 0);
        update_param<float, Buffered, Plain>(e, grads[i], seen[i], c);
        if constexpr (Buffered) buffer[i] = narrow<Signed>(e.buffer, keys.buffer, static_cast<u32>(i), rest);
        const u32 random = random_bits(keys.param, static_cast<u32>(i));
        param[i] = Param::store(e.param, random, rest);
        if constexpr (Param::kCompensated) lost[i] = rest;
        codes[i] = encode8(squares[i], base, random);
    }
    for (i32 i = 0; i < n; ++i) square[i] = static_cast<std::uint8_t>(codes[i]);
}

/// Call `run` with switches as types: a loop is compiled for each combination.
template <class Run>
void with_switches(bool centered, bool buffered, bool plain, const Run& run) {
    const std::true_type on;
    const std::false_type off;
    const auto with_plain = [&](auto c, auto b) { plain ? run(c, b, on) : run(c, b, off); };
    const auto with_buffer = [&](auto c) { buffered ? with_plain(c, on) : with_plain(c, off); };
    centered ? with_buffer(on) : with_buffer(off);
}

template <class T>
T* at(void* base, std::ptrdiff_t i) {
    return base == nullptr ? nullptr : static_cast<T*>(base) + i;
}
template <class T>
const T* at(const void* base, std::ptrdiff_t i) {
    return static_cast<const T*>(base) + i;
}

template <class T, class Param, class State = WideState<T>>
void step_blocks(const Tensor& t, std::ptrdiff_t begin, std::ptrdiff_t end, const Numbers& numbers) {
    using Value = typename Param::Stored;
    using Square = typename State::Square::Stored;
    using Signed = typename State::Signed::Stored;
    const Rounded<T> c(numbers, t);
    with_switches(numbers.centered, numbers.buffered, c.is_plain(), [&](auto centered, auto buffered, auto plain) {
        for (std::ptrdiff_t i = begin; i < end; i += kBlock) {
            const i32 n = static_cast<i32>(end - i < kBlock ? end - i : kBlock);
            const Keys keys(t.key, i / kBlock);
            Value* param = at<Value>(t.param, i);
            const Value* grad = at<Value>(t.grad, i);
            Square* square = at<Square>(t.square, i);
            Signed* mean = at<Signed>(t.mean, i);
            Signed* buffer = at<Signed>(t.buffer, i);
            u16* lost = at<u16>(t.lost, i);
            const auto step = [&](auto format, auto* p, const auto* g) {
                using Format = decltype(format);
                if constexpr (std::is_same_v<State, Code8State>)
                    step_coded_block<centered, buffered, plain, Format>(p, g, square, t.square_scale + i / kBlock, mean,
                                                                        buffer, lost, n, c, keys);
                else
                    step_block<T, centered, buffered, plain, Format, State>(p, g, square, mean, buffer, lost, n, c,
                                                                            keys);
            };
            if constexpr (Param::kApart) {
                float values[kBlock], grads[kBlock];
                u16 none = 0;
                for (i32 j = 0; j < n; ++j) values[j] = Param::wide(param[j]);
                for (i32 j = 0; j < n; ++j) grads[j] = Param::wide(grad[j]);
                step(Direct<float>(), values, grads);
                for (i32 j = 0; j < n; ++j) param[j] = narrow<Param>(values[j], keys.param, static_cast<u32>(j), none);
            } else {
                step(Param(), param, grad);
            }
        }
    });
}

template <class Param>
void step_states(const Tensor& t, std::ptrdiff_t begin, std::ptrdiff_t end, const Numbers& numbers) {
    switch (t.state) {
        case Dtype::code8: return step_blocks<float, Param, Code8State>(t, begin, end, numbers);
        case Dtype::bfloat16: return step_blocks<float, Param, BFloat16State>(t, begin, end, numbers);
        default: return step_blocks<float, Param>(t, begin, end, numbers);
    }
}

void step_range(const Tensor& t, std::ptrdiff_t begin, std::ptrdiff_t end, const Numbers& numbers) {
    const Ieee ieee;
    const bool stochastic = t.rounding == Rounding::stochastic;
    switch (t.dtype) {
        case Dtype::float64: return step_blocks<double, Direct<double>>(t, begin, end, numbers);
        case Dtype::float32: return step_states<Direct<float>>(t, begin, end, numbers);
        case Dtype::bfloat16:
            if (t.rounding == Rounding::compensated) return step_states<CompensatedBFloat16>(t, begin, end, numbers);
            if (stochastic) return step_states<StochasticBFloat16>(t, begin, end, numbers);
            return step_states<NearestBFloat16>(t, begin, end, numbers);
        default:
            if (stochastic) return step_states<StochasticFloat16>(t, begin, end, numbers);
            return step_states<NearestFloat16>(t, begin, end, numbers);
    }
}

/// Sixteen interleaved sums, so that the order of the additions is the same for every vector width.
constexpr std::ptrdiff_t kLanes = 16;

template <class Format>
void add_squares(const typename Format::Stored* grad, std::ptrdiff_t n, double* __restrict lanes) {
    const auto add = [&](std::ptrdiff_t i, double& lane) {
        const double x = Format::wide(grad[i]);
        lane += x * x;
    };
    std::ptrdiff_t i = 0;
    for (; i + kLanes <= n; i += kLanes)
        for (std::ptrdiff_t j = 0; j < kLanes; ++j) add(i + j, lanes[j]);
    for (; i < n; ++i) add(i, lanes[i % kLanes]);
}

double squares_range(const Tensor& t, std::ptrdiff_t begin, std::ptrdiff_t end) {
    const Ieee ieee;
    double lanes[kLanes] = {};
    switch (t.dtype) {
        case Dtype::float64: add_squares<Direct<double>>(at<double>(t.grad, begin), end - begin, lanes); break;
        case Dtype::float32: add_squares<Direct<float>>(at<float>(t.grad, begin), end - begin, lanes); break;
        case Dtype::bfloat16: add_squares<NearestBFloat16>(at<u16>(t.grad, begin), end - begin, lanes); break;
        default: add_squares<NearestFloat16>(at<u16>(t.grad, begin), end - begin, lanes);
    }
    double sum = 0;
    for (double lane : lanes) sum += lane;
    return sum;
}

void move_range(const Tensor& t, std::ptrdiff_t begin, std::ptrdiff_t end) {
    float* __restrict p = at<float>(t.param, begin);
    const float* __restrict g = at<float>(t.grad, begin);
    float* __restrict s = at<float>(t.square, begin);
    for (std::ptrdiff_t i = 0; i < end - begin; ++i) {
        p[i] += g[i];
        s[i] += g[i];
    }
}

}  // namespace

const Functions functions{step_range, squares_range, move_range};

}  // namespace RMSPROP_ISA_NAMESPACE
}  // namespace rmsprop
