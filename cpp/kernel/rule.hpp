// What a step is asked to do, as plain numbers, and what follows from it for one step: the same code on a CPU and a
// GPU.
#pragma once
#include <cstdint>

#include "step.hpp"

namespace rmsprop {

/// The switches of `rmsprop.Rule`, as the kernel wants them.
struct Rule {
    double rho, eps, var_floor, momentum, weight_decay;
    enum class Eps : std::uint8_t { outside, inside, max } eps_mode;
    enum class Buffer : std::uint8_t { none, unit, lr } buffer;
    enum class Decay : std::uint8_t { none, l2, decoupled, decoupled_corrected, in_buffer } decay;
    bool centered, bias_correction, nesterov, maximize;
    Rounding rounding = Rounding::nearest;

    /// The arrays kept per parameter, those of rmsprop.Rule.buffers.
    int buffers() const { return (centered ? 2 : 1) + (buffer == Buffer::none ? 0 : 1); }

    Numbers numbers(double lr, double lr_max, double grad_scale) const {
        Numbers n{};
        n.scale = maximize ? -grad_scale : grad_scale;
        n.use_l2 = decay == Decay::l2;
        n.l2 = weight_decay;
        n.var_floor = var_floor;
        n.eps_inside = eps_mode == Eps::inside ? eps : 0;
        n.eps_outside = eps_mode == Eps::outside ? eps : 0;
        n.eps_floor = eps_mode == Eps::max ? eps : 0;
        n.use_in_buffer = decay == Decay::in_buffer;
        n.in_buffer = weight_decay;
        n.momentum = momentum;
        n.lr_inside = buffer == Buffer::unit ? 1 : lr;
        n.lr_outside = buffer == Buffer::unit ? lr : 1;
        n.keep = 1;
        if (decay == Decay::decoupled) n.keep = 1.0 - lr * weight_decay;
        if (decay == Decay::decoupled_corrected) n.keep = 1.0 - (lr_max == 0 ? 0 : lr * lr / lr_max) * weight_decay;
        n.centered = centered;
        n.buffered = buffer != Buffer::none;
        n.nesterov = nesterov;
        return n;
    }

    /// Set what depends on the step. `fresh` is the weight of this gradient, `place` the parameter's among all of the
    /// optimizer.
    void set_moment(Tensor& t, double step, double fresh, std::uint64_t seed, std::uint64_t place) const {
        t.fresh = fresh;
        t.rho = bias_correction ? 1.0 - fresh : rho;
        t.first = bias_correction && centered && step == 1 ? 1 : 0;
        if (t.rounding != Rounding::nearest || t.state == Dtype::bfloat16 || t.state == Dtype::code8)
            t.key = mixed(mixed(mixed(seed) + place) + static_cast<std::uint64_t>(step));
    }

private:
    static std::uint64_t mixed(std::uint64_t x) {
        x += 0x9E3779B97F4A7C15u;
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
        x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
        return x ^ (x >> 31);
    }
};

}  // namespace rmsprop
