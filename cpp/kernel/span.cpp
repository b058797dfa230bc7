// The arithmetic, compiled once per instruction set (CMakeLists.txt defines RMSPROP_ISA_NAMESPACE and the flags).
//
// The loops are plain C++ that the compiler turns into vector code: one source for every instruction set, and one
// IEEE operation per line of reference.py. Switches that do not change which arrays are touched are numbers (adding 0,
// multiplying by 1) or selects, which cost nothing beside a division and a square root.
#include "span.hpp"

#include <type_traits>

#include "ieee.hpp"
#include "storage.hpp"

namespace rmsprop {
namespace RMSPROP_ISA_NAMESPACE {
namespace {

inline float root_of(float x) { return __builtin_sqrtf(x); }
inline double root_of(double x) { return __builtin_sqrt(x); }
inline float magnitude_of(float x) { return __builtin_fabsf(x); }
inline double magnitude_of(double x) { return __builtin_fabs(x); }
inline float signed_like(float x, float s) { return __builtin_copysignf(x, s); }
inline double signed_like(double x, double s) { return __builtin_copysign(x, s); }

template <class T>
struct Limits;
template <>
struct Limits<float> {
    static constexpr float saturation = 0x1p62f, largest = 0x1.fffffep127f, nudge = 0.75f * 0x1p-23f;
};
template <>
struct Limits<double> {
    static constexpr double saturation = 0x1p510, largest = 0x1.fffffffffffffp1023, nudge = 0.75 * 0x1p-52;
};

/// `Numbers`, rounded once to the type of the arithmetic.
template <class T>
struct Rounded {
    T scale, l2, var_floor, eps_inside, eps_outside, eps_floor, in_buffer, momentum, lr_inside, lr_outside, keep;
    T rho, fresh, first;
    bool nesterov, use_l2, use_in_buffer;

    Rounded(const Numbers& n, const Tensor& t)
        : scale(T(n.scale)),
          l2(T(n.l2)),
          var_floor(T(n.var_floor)),
          eps_inside(T(n.eps_inside)),
          eps_outside(T(n.eps_outside)),
          eps_floor(T(n.eps_floor)),
          in_buffer(T(n.in_buffer)),
          momentum(T(n.momentum)),
          lr_inside(T(n.lr_inside)),
          lr_outside(T(n.lr_outside)),
          keep(T(n.keep)),
          rho(T(t.rho)),
          fresh(T(t.fresh)),
          first(T(t.first)),
          nesterov(n.nesterov),
          use_l2(n.use_l2),
          use_in_buffer(n.use_in_buffer) {}
};

/// The keys of one block's random bits: each array draws its own.
struct Keys {
    u32 param, square, mean, buffer;
    Keys() : param(0), square(0), mean(0), buffer(0) {}
    Keys(std::uint64_t key, std::int64_t block)
        : param(block_key(key, block, 0)),
          square(block_key(key, block, 1)),
          mean(block_key(key, block, 2)),
          buffer(block_key(key, block, 3)) {}
};

template <class Format, class T>
inline typename Format::Stored narrow(T x, u32 key, u32 i, u16& lost) {
    if constexpr (Format::kRandom) return Format::store(x, random_bits(key, i), lost);
    else return Format::store(x, 0, lost);
}

/// One step on n elements; `mean` only when Centered, `buffer` only when Buffered, `lost` only for a compensated Param.
/// Plain leaves out the operations that `is_plain` has shown to change nothing here.
template <class T, bool Centered, bool Buffered, bool Plain, class Param, class State>
void span(typename Param::Stored* __restrict param, const typename Param::Stored* __restrict grad,
          typename State::Square::Stored* __restrict square, typename State::Signed::Stored* __restrict mean,
          typename State::Signed::Stored* __restrict buffer, u16* __restrict lost, std::ptrdiff_t n, const Rounded<T> c,
          const Keys keys) {
    // A block's positions fit in 32 bits, of which the random bits are made: half as many vectors as of 64.
    using Index = std::conditional_t<Param::kBlockwise || State::Square::kBlockwise, i32, std::ptrdiff_t>;
    const Index end = static_cast<Index>(n);
    for (Index i = 0; i < end; ++i) {
        u16 rest = 0;
        if constexpr (Param::kCompensated) rest = lost[i];
        const T p = Param::load(param[i], rest);
        T g = Param::wide(grad[i]) * c.scale;
        if constexpr (!Plain) g = c.use_l2 ? g + c.l2 * p : g;
        const T size = magnitude_of(g);
        const bool beyond = size > Limits<T>::saturation && size <= Limits<T>::largest;
        g = beyond ? signed_like(Limits<T>::saturation, g) : g;

        T s = State::Square::load(square[i], 0);
        if constexpr (Centered) {
            const T before = State::Signed::load(mean[i], 0);
            const T deviation = g - before;
            const T move = c.fresh * deviation;
            T after = before + move;
            const T nudge = signed_like(Limits<T>::nudge * magnitude_of(before), move);
            after = (after == before && move != T(0)) ? before + nudge : after;
            mean[i] = narrow<typename State::Signed>(after, keys.mean, static_cast<u32>(i), rest);
            s = c.rho * (s + move * deviation);
            square[i] = narrow<typename State::Square>(s, keys.square, static_cast<u32>(i), rest);
            if constexpr (!Plain) s = (c.first != T(0)) ? s + after * after : s;
        } else {
            s = c.rho * s + c.fresh * (g * g);
            square[i] = narrow<typename State::Square>(s, keys.square, static_cast<u32>(i), rest);
        }

        T u;
        if constexpr (Plain) {
            u = g / (root_of(s + c.eps_inside) + c.eps_outside);
        } else {
            s = (s < c.var_floor) ? c.var_floor : s;
            T d = root_of(s + c.eps_inside) + c.eps_outside;
            d = (d < c.eps_floor) ? c.eps_floor : d;
            u = (d == T(0)) ? T(0) : g / d;
            u = c.use_in_buffer ? u + c.in_buffer * p : u;
        }

        T move = c.lr_inside * u;
        if constexpr (Buffered) {
            const T b = c.momentum * State::Signed::load(buffer[i], 0) + move;
            buffer[i] = narrow<typename State::Signed>(b, keys.buffer, static_cast<u32>(i), rest);
            move = c.nesterov ? move + c.momentum * b : b;
            move = c.lr_outside * move;
        }
        param[i] = narrow<Param>(c.keep * p - move, keys.param, static_cast<u32>(i), rest);
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

/// Whether the guards and the rarer switches are all idle: no floor is set, and no denominator can be 0.
template <class T>
bool is_plain(const Rounded<T>& c) {
    return !c.use_l2 && !c.use_in_buffer && c.first == T(0) && c.var_floor == T(0) && c.eps_floor == T(0) &&
           (c.eps_inside > T(0) || c.eps_outside > T(0));
}

template <class T>
void any_rule(T* param, const T* grad, T* square, T* mean, T* buffer, std::ptrdiff_t n, const Numbers& numbers,
              const Rounded<T>& c) {
    const Keys none;
    if (is_plain(c)) any_span<T, true>(param, grad, square, mean, buffer, nullptr, n, numbers, c, none);
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
    if (!is_plain(c) || t.state == Dtype::code8 || t.dtype == Dtype::float16) {
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
