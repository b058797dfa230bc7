#include "rule.hpp"

namespace border {

rmsprop::Numbers Rule::numbers(double lr, double lr_max, double grad_scale) const {
    rmsprop::Numbers n{};
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

}  // namespace border
