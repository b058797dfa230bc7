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

/// One step on n elements; `mean` only when Centered, `buffer` only when Buffered, `lost` only for a compensated Param.
template <class T, bool Centered, bool Buffered, bool Plain, class Param, class State>
void span(typename Param::Stored* __restrict param, const typename Param::Stored* __restrict grad,
          typename State::Square::Stored* __restrict square, typename State::Signed::Stored* __restrict mean,
          typename State::Signed::Stored* __restrict buffer, u16* __restrict lost, std::ptrdiff_t n, const Rounded<T> c,
          const Keys keys) {
    // A block's positions fit in 32 bits, of which the random bits are made: half as many vectors as of 64.
    using Index = std::conditional_t<Param::kBlockwise || State::Square::kBlockwise, i32, std::ptrdiff_t>;
    const Index end = static_cast<Index>(n);
    for (Index i = 0; i < end; ++i) {
        const u32 at = static_cast<u32>(i);
        u16 rest = 0;
        if constexpr (Param::kCompensated) rest = lost[i];
        Element<T> e{};
        e.param = Param::load(param[i], rest);
        e.square = State::Square::load(square[i], 0);
        if constexpr (Centered) e.mean = State::Signed::load(mean[i], 0);
        if constexpr (Buffered) e.buffer = State::Signed::load(buffer[i], 0);
        step_element<T, Centered, Buffered, Plain>(e, Param::wide(grad[i]), c);
        square[i] = narrow<typename State::Square>(e.square, keys.square, at, rest);
        if constexpr (Centered) mean[i] = narrow<typename State::Signed>(e.mean, keys.mean, at, rest);
        if constexpr (Buffered) buffer[i] = narrow<typename State::Signed>(e.buffer, keys.buffer, at, rest);
        param[i] = narrow<Param>(e.param, keys.param, at, rest);
        if constexpr (Param::kCompensated) lost[i] = rest;
    }
}

/// Which arrays a rule touches.
template <class T, bool Plain, class Param = Direct<T>, class State = WideState<T>>
void any_span(typename Param::Stored* param, const typename Param::Stored* grad, typename State::Square::Stored* square,
              typename State::Signed::Stored* mean, typename State::Signed::Stored* buffer, u16* lost, std::ptrdiff_t n,
              const Numbers& numbers, const Rounded<T>& c, const Keys& keys) {
    if (numbers.centered) {
        if (numbers.buffered)
            span<T, true, true, Plain, Param, State>(param, grad, square, mean, buffer, lost, n, c, keys);
        else span<T, true, false, Plain, Param, State>(param, grad, square, mean, buffer, lost, n, c, keys);
    } else if (numbers.buffered) {
        span<T, false, true, Plain, Param, State>(param, grad, square, mean, buffer, lost, n, c, keys);
    } else {
        span<T, false, false, Plain, Param, State>(param, grad, square, mean, buffer, lost, n, c, keys);
    }
}

template <class T>
void any_rule(T* param, const T* grad, T* square, T* mean, T* buffer, std::ptrdiff_t n, const Numbers& numbers,
              const Rounded<T>& c) {
    const Keys none;
    if (c.is_plain()) any_span<T, true>(param, grad, square, mean, buffer, nullptr, n, numbers, c, none);
    else any_span<T, false>(param, grad, square, mean, buffer, nullptr, n, numbers, c, none);
}

template <class T>
T* at(void* base, std::ptrdiff_t i) {
    return base == nullptr ? nullptr : static_cast<T*>(base) + i;
}
template <class T>
const T* at(const void* base, std::ptrdiff_t i) {
    return static_cast<const T*>(base) + i;
}

/// Read one block of a parameter or gradient as float32; float32 itself is not copied.
float* widen(void* base, Dtype dtype, std::ptrdiff_t i, std::ptrdiff_t n, float* scratch) {
    switch (dtype) {
        case Dtype::float32: return at<float>(base, i);
        case Dtype::bfloat16: load_bfloat16(at<u16>(base, i), scratch, n); return scratch;
        default: load_float16(at<u16>(base, i), scratch, n); return scratch;
    }
}

void store_param(const Tensor& t, std::ptrdiff_t i, i32 n, const float* values, u32 key) {
    u16* to = at<u16>(t.param, i);
    if (t.dtype == Dtype::bfloat16) {
        switch (t.rounding) {
            case Rounding::nearest: return store_bfloat16(values, to, n);
            case Rounding::stochastic: return store_bfloat16_stochastic(values, to, n, key);
            case Rounding::compensated: return store_compensated(values, to, t.lost + i, n);
        }
    }
    if (t.rounding == Rounding::stochastic) return store_float16_stochastic(values, to, n, key);
    store_float16(values, to, n);
}

/// Blocks whose arrays are not all float32: widened to the stack, stepped there, narrowed back.
void staged(const Tensor& t, std::ptrdiff_t begin, std::ptrdiff_t end, const Numbers& numbers,
            const Rounded<float>& c) {
    float p_[kBlock], g_[kBlock], s_[kBlock], m_[kBlock], b_[kBlock];
    const bool code8 = t.state == Dtype::code8;
    const Dtype narrow = code8 ? Dtype::bfloat16 : t.state;  // of mean and buffer
    for (std::ptrdiff_t i = begin; i < end; i += kBlock) {
        const std::ptrdiff_t n = end - i < kBlock ? end - i : kBlock;
        const std::ptrdiff_t block = i / kBlock;
        float* p = p_;
        if (t.rounding == Rounding::compensated) load_compensated(at<u16>(t.param, i), t.lost + i, p_, n);
        else p = widen(t.param, t.dtype, i, n, p_);
        const float* g = widen(const_cast<void*>(t.grad), t.dtype, i, n, g_);
        float* s = s_;
        if (code8) load_code8(at<std::uint8_t>(t.square, i), t.square_max[block], s_, n);
        else s = widen(t.square, t.state, i, n, s_);
        float* m = numbers.centered ? widen(t.mean, narrow, i, n, m_) : nullptr;
        float* b = numbers.buffered ? widen(t.buffer, narrow, i, n, b_) : nullptr;

        any_rule<float>(p, g, s, m, b, n, numbers, c);

        const Keys keys(t.key, block);
        const i32 count = static_cast<i32>(n);
        if (p == p_) store_param(t, i, count, p, keys.param);
        if (code8) t.square_max[block] = store_code8(s, at<std::uint8_t>(t.square, i), count, keys.square);
        else if (s == s_) store_bfloat16_square(s, at<u16>(t.square, i), count, keys.square);
        if (m == m_) store_bfloat16_stochastic(m, at<u16>(t.mean, i), count, keys.mean);
        if (b == b_) store_bfloat16_stochastic(b, at<u16>(t.buffer, i), count, keys.buffer);
    }
}

/// Blocks of bfloat16 parameters or statistics under a plain rule: converted within the loop that steps them.
template <class Param, class State>
void fused(const Tensor& t, std::ptrdiff_t begin, std::ptrdiff_t end, const Numbers& numbers, const Rounded<float>& c) {
    using Value = typename Param::Stored;
    using Square = typename State::Square::Stored;
    using Signed = typename State::Signed::Stored;
    for (std::ptrdiff_t i = begin; i < end; i += kBlock) {
        const std::ptrdiff_t n = end - i < kBlock ? end - i : kBlock;
        any_span<float, true, Param, State>(
            at<Value>(t.param, i), at<Value>(t.grad, i), at<Square>(t.square, i), at<Signed>(t.mean, i),
            at<Signed>(t.buffer, i), t.lost == nullptr ? nullptr : t.lost + i, n, numbers, c, Keys(t.key, i / kBlock));
    }
}

template <class Param>
void fused_state(const Tensor& t, std::ptrdiff_t begin, std::ptrdiff_t end, const Numbers& numbers,
                 const Rounded<float>& c) {
    if (t.state == Dtype::bfloat16) fused<Param, BFloat16State>(t, begin, end, numbers, c);
    else fused<Param, WideState<float>>(t, begin, end, numbers, c);
}

/// What is kept in fewer bits than it is computed in.
void narrow_range(const Tensor& t, std::ptrdiff_t begin, std::ptrdiff_t end, const Numbers& numbers,
                  const Rounded<float>& c) {
    if (!c.is_plain() || t.state == Dtype::code8 || t.dtype == Dtype::float16) {
        staged(t, begin, end, numbers, c);
    } else if (t.dtype == Dtype::float32) {
        fused<Direct<float>, BFloat16State>(t, begin, end, numbers, c);
    } else {
        switch (t.rounding) {
            case Rounding::nearest: return fused_state<NearestBFloat16>(t, begin, end, numbers, c);
            case Rounding::stochastic: return fused_state<StochasticBFloat16>(t, begin, end, numbers, c);
            case Rounding::compensated: return fused_state<CompensatedBFloat16>(t, begin, end, numbers, c);
        }
    }
}

void step_range(const Tensor& t, std::ptrdiff_t begin, std::ptrdiff_t end, const Numbers& numbers) {
    const Ieee ieee;
    if (t.dtype == Dtype::float64) {
        any_rule<double>(at<double>(t.param, begin), at<double>(t.grad, begin), at<double>(t.square, begin),
                         at<double>(t.mean, begin), at<double>(t.buffer, begin), end - begin, numbers,
                         Rounded<double>(numbers, t));
        return;
    }
    const Rounded<float> c(numbers, t);
    if (t.dtype == Dtype::float32 && t.state == Dtype::float32)
        any_rule<float>(at<float>(t.param, begin), at<float>(t.grad, begin), at<float>(t.square, begin),
                        at<float>(t.mean, begin), at<float>(t.buffer, begin), end - begin, numbers, c);
    else narrow_range(t, begin, end, numbers, c);
}

/// Sixteen interleaved sums, so that the order of the additions is the same for every vector width.
constexpr std::ptrdiff_t kLanes = 16;

template <class T>
void add_squares(const T* x, std::ptrdiff_t n, double* __restrict lanes) {
    std::ptrdiff_t i = 0;
    for (; i + kLanes <= n; i += kLanes)
        for (std::ptrdiff_t j = 0; j < kLanes; ++j) lanes[j] += double(x[i + j]) * double(x[i + j]);
    for (; i < n; ++i) lanes[i % kLanes] += double(x[i]) * double(x[i]);
}

double squares_range(const Tensor& t, std::ptrdiff_t begin, std::ptrdiff_t end) {
    const Ieee ieee;
    double lanes[kLanes] = {};
    if (t.dtype == Dtype::float64) {
        add_squares(at<double>(t.grad, begin), end - begin, lanes);
    } else if (t.dtype == Dtype::float32) {
        add_squares(at<float>(t.grad, begin), end - begin, lanes);
    } else {
        float g[kBlock];
        for (std::ptrdiff_t i = begin; i < end; i += kBlock) {
            const std::ptrdiff_t n = end - i < kBlock ? end - i : kBlock;
            add_squares(widen(const_cast<void*>(t.grad), t.dtype, i, n, g), n, lanes);
        }
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
