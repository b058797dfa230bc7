#include "step.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <string>
#include <vector>

#include "../kernel/ieee.hpp"
#include "batch.hpp"
#include "refusal.hpp"
#include "threads.hpp"

namespace nb = nanobind;

namespace border {

using rmsprop::Tensor;

namespace {

/// As Python writes it: a NaN has no sign.
std::string number_text(double x) {
    if (std::isnan(x)) return "nan";
    char text[32];
    std::snprintf(text, sizeof text, "%g", x);
    return text;
}

}  // namespace

double step(const Rule& rule, nb::list params, nb::list grads, nb::tuple buffers, nb::object steps, const Call& call,
            nb::object names) {
    if (!std::isfinite(call.lr) || call.lr < 0)
        refuse("InputError", "lr: " + number_text(call.lr) + ", expected a finite number of at least 0");
    if (!(call.max_norm >= 0))
        refuse("InputError", "max_norm: " + number_text(call.max_norm) + ", expected a number of at least 0");
    const rmsprop::Ieee ieee;
    Batch batch(std::move(names));
    batch.read(rule, params, grads, buffers, steps);
    batch.check_overlap(true);
    batch.prepare(rule, call);
    const int threads = threads_for(batch.elements, call.threads);
    const auto count = static_cast<std::ptrdiff_t>(batch.tensors.size());

    double norm = std::numeric_limits<double>::quiet_NaN();
    double scale = call.grad_scale;
    if (call.max_norm > 0 || call.check_finite) {
        std::vector<double> partials(static_cast<std::size_t>(count * rmsprop::kSegments));
        double sum;
        {
            nb::gil_scoped_release release;
            sum = rmsprop::sum_of_squares(batch.tensors.data(), count, partials.data(), threads);
        }
        norm = std::sqrt(sum) * std::fabs(scale);
        if (call.check_finite && !std::isfinite(sum)) batch.check_finite();
        if (call.max_norm > 0) {
            if (std::isinf(sum) && batch.all_finite())
                refuse("InputError", "grads: the sum of their squares overflows, so max_norm cannot scale them");
            const double factor = call.max_norm / (norm + call.norm_eps);
            scale = factor < 1 ? scale * factor : norm != norm ? norm : scale;
        }
    }
    const rmsprop::Numbers numbers = rule.numbers(call.lr, call.lr_max, scale);
    if (threads > 1) {
        nb::gil_scoped_release release;
        rmsprop::step(batch.tensors.data(), count, numbers, threads);
    } else if (batch.elements > 4096) {
        nb::gil_scoped_release release;
        rmsprop::step(batch.tensors.data(), count, numbers, 1);
    } else {
        rmsprop::step(batch.tensors.data(), count, numbers, 1);  // shorter than handing the GIL over
    }
    batch.advance_steps();
    return norm;
}

void check(const Rule& rule, nb::list params, nb::tuple buffers, nb::object names) {
    Batch batch(std::move(names));
    // The parameters stand in for the gradients: right shape, dtype and layout, and not looked at for overlap.
    batch.read(rule, params, params, buffers, nb::none());
    batch.check_overlap(false);
}

double global_norm(nb::list grads, int threads) {
    std::vector<View> views(nb::len(grads));
    std::vector<Tensor> tensors;
    std::ptrdiff_t elements = 0;
    for (std::size_t i = 0; i < views.size(); ++i) {
        if (grads[i].is_none()) continue;
        const std::string name = "grads[" + std::to_string(i) + "]";
        std::string why;
        if (!views[i].open(nb::handle(grads[i]).ptr(), why)) refuse("InputTypeError", name + ": " + why);
        if (!is_parameter_dtype(views[i].element))
            refuse("InputTypeError", name + ": " + dtype_text(views[i]) + ", expected a floating dtype");
        if (!views[i].aligned() || !views[i].dense())
            refuse("InputError", name + ": strided memory with gaps, expected dense memory");
        Tensor t{};
        t.grad = views[i].data;
        t.size = views[i].size;
        t.dtype = kernel_dtype(views[i].element);
        elements += t.size;
        tensors.push_back(t);
    }
    const auto count = static_cast<std::ptrdiff_t>(tensors.size());
    std::vector<double> partials(static_cast<std::size_t>(count * rmsprop::kSegments));
    const rmsprop::Ieee ieee;
    nb::gil_scoped_release release;
    return std::sqrt(rmsprop::sum_of_squares(tensors.data(), count, partials.data(), threads_for(elements, threads)));
}

void move_bytes(nb::list params, nb::list grads, nb::list squares, int threads) {
    const std::size_t count = nb::len(params);
    std::vector<View> views(count * 3);
    std::vector<Tensor> tensors(count);
    std::string why;
    for (std::size_t i = 0; i < count; ++i) {
        nb::handle objects[] = {params[i], grads[i], squares[i]};
        for (std::size_t k = 0; k < 3; ++k) {
            View& view = views[3 * i + k];
            if (!view.open(objects[k].ptr(), why)) refuse("InputTypeError", why);
            if (view.element != Element::float32 || !view.aligned() || !view.dense() || view.size != views[3 * i].size)
                refuse("InputError", "move_bytes: expected dense float32 arrays of one shape");
        }
        tensors[i].param = views[3 * i].data;
        tensors[i].grad = views[3 * i + 1].data;
        tensors[i].square = views[3 * i + 2].data;
        tensors[i].size = views[3 * i].size;
    }
    nb::gil_scoped_release release;
    rmsprop::move_bytes(tensors.data(), static_cast<std::ptrdiff_t>(count), std::max(threads, 1));
}

}  // namespace border
