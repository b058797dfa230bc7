// The formula: one step of one element, operation for operation that of src/rmsprop/formula.py.
//
// No loop, no memory, no library: what includes this file brings the loop and the number formats, so that it can be
// compiled for any target. One IEEE operation per line of the Python; compile without contraction. Switches that do not
// change which arrays are touched are numbers (adding 0, multiplying by 1) or selects, which cost nothing beside a
// division and a square root.
#pragma once
#include <cstdint>
#include <cstring>

#include "step.hpp"

namespace rmsprop {
namespace RMSPROP_ISA_NAMESPACE {

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
    static constexpr float roundoff = 0x1p-24f;
    using Bits = std::uint32_t;
};
template <>
struct Limits<double> {
    static constexpr double saturation = 0x1p510, largest = 0x1.fffffffffffffp1023, nudge = 0.75 * 0x1p-52;
    static constexpr double roundoff = 0x1p-53;
    using Bits = std::uint64_t;
};

/// A switch that is the same for all elements, as a mask: a bool in its place can keep the loop from vector code.
template <class T>
class Switch {
    using Bits = typename Limits<T>::Bits;

public:
    explicit Switch(bool on) : mask_(on ? ~Bits(0) : Bits(0)) {}
    bool on() const { return mask_ != 0; }
    T pick(T when_on, T when_off) const {
        Bits a, b;
        std::memcpy(&a, &when_on, sizeof a);
        std::memcpy(&b, &when_off, sizeof b);
        b = (a & mask_) | (b & ~mask_);
        std::memcpy(&when_off, &b, sizeof b);
        return when_off;
    }

private:
    Bits mask_;
};

/// `Numbers`, rounded once to the type of the arithmetic.
template <class T>
struct Rounded {
    T scale, l2, var_floor, eps_inside, eps_outside, eps_floor, in_buffer, momentum, lr_inside, lr_outside, keep;
    T rho, fresh;
    Switch<T> first, nesterov, use_l2, use_in_buffer;

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
          first(t.first != 0),
          nesterov(n.nesterov),
          use_l2(n.use_l2),
          use_in_buffer(n.use_in_buffer) {}

    /// Whether the guards and the rarer switches are all idle: no floor is set, and no denominator can be 0.
    bool is_plain() const {
        return !use_l2.on() && !use_in_buffer.on() && !first.on() && !nesterov.on() && var_floor == T(0) &&
               eps_floor == T(0) && (eps_inside > T(0) || eps_outside > T(0));
    }
};

/// What one element keeps: `square` is the mean square, or the variance where Centered; the others may be unused.
template <class T>
struct Element {
    T param, square, mean, buffer;
};

// The stages of a step, as in formula.py. Plain leaves out the operations that `Rounded::is_plain` has shown to change
// nothing.

/// Scale the gradient, add the l2 term, and limit what its square would make infinite.
template <class T, bool Plain>
inline T limit_grad(T grad, T param, const Rounded<T>& c) {
    T g = grad * c.scale;
    if constexpr (!Plain) g = c.use_l2.pick(g + c.l2 * param, g);
    const T size = magnitude_of(g);
    const bool beyond = (size > Limits<T>::saturation) & (size <= Limits<T>::largest);
    return beyond ? signed_like(Limits<T>::saturation, g) : g;
}

/// Update the statistics and return what the denominator sees of them.
template <class T, bool Centered, bool Plain>
inline T update_statistics(Element<T>& e, T g, const Rounded<T>& c) {
    T s;
    if constexpr (Centered) {
        const T deviation = g - e.mean;
        const T move = c.fresh * deviation;
        T mean = e.mean + move;
        const T nudged = e.mean + signed_like(Limits<T>::nudge * magnitude_of(e.mean), move);
        const bool stuck = (mean == e.mean) & (move != T(0));  // not &&: a branch would keep the loop from vector code
        mean = stuck ? nudged : mean;
        e.mean = mean;
        s = c.rho * (e.square + move * deviation);
        const T least = Limits<T>::roundoff * (g * g);
        s = s < least ? least : s;
        e.square = s;
        if constexpr (!Plain) s = c.first.pick(s + mean * mean, s);
    } else {
        s = c.rho * e.square + c.fresh * (g * g);
        e.square = s;
    }
    return s;
}

/// Divide by the denominator and apply the update to the parameter.
template <class T, bool Buffered, bool Plain>
inline void update_param(Element<T>& e, T g, T s, const Rounded<T>& c) {
    T u;
    if constexpr (Plain) {
        u = g / (root_of(s + c.eps_inside) + c.eps_outside);
    } else {
        s = (s < c.var_floor) ? c.var_floor : s;
        T d = root_of(s + c.eps_inside) + c.eps_outside;
        d = (d < c.eps_floor) ? c.eps_floor : d;
        u = (d == T(0)) ? T(0) : g / d;
        u = c.use_in_buffer.pick(u + c.in_buffer * e.param, u);
    }
    T move = c.lr_inside * u;
    if constexpr (Buffered) {
        const T b = c.momentum * e.buffer + move;
        e.buffer = b;
        if constexpr (Plain) move = b;
        else move = c.nesterov.pick(move + c.momentum * b, b);
        move = c.lr_outside * move;
    }
    e.param = c.keep * e.param - move;
}

/// One step of one element.
template <class T, bool Centered, bool Buffered, bool Plain>
inline void step_element(Element<T>& e, T grad, const Rounded<T>& c) {
    const T g = limit_grad<T, Plain>(grad, e.param, c);
    const T s = update_statistics<T, Centered, Plain>(e, g, c);
    update_param<T, Buffered, Plain>(e, g, s, c);
}

}  // namespace RMSPROP_ISA_NAMESPACE
}  // namespace rmsprop
