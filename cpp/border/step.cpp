#include "step.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <string>
#include <vector>

#include "../kernel/ieee.hpp"
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

nb::object step(Plan& plan, nb::list grads, const Args& args, bool strict) {
    if (!std::isfinite(args.lr) || args.lr < 0)
        refuse("InputError", "lr: " + number_text(args.lr) + ", expected a finite number of at least 0");
    if (!(args.max_norm >= 0))
        refuse("InputError", "max_norm: " + number_text(args.max_norm) + ", expected a number of at least 0");
    const rmsprop::Ieee ieee;
    const auto held = nb::steal(PyList_AsTuple(grads.ptr()));  // alive while another thread may change the list
    Work work;
    if (!plan.read(held, strict, work)) return nb::none();
    plan.prepare(work, args.seed);
    const int threads = threads_for(work.elements, args.threads);
    const auto count = static_cast<std::ptrdiff_t>(work.tensors.size());

    double norm = std::numeric_limits<double>::quiet_NaN();
    double scale = args.scale;
    if (args.max_norm > 0 || args.check_finite) {
        std::vector<double> partials(static_cast<std::size_t>(count * rmsprop::kSegments));
        double sum;
        {
            nb::gil_scoped_release release;
            sum = rmsprop::sum_of_squares(work.tensors.data(), count, partials.data(), threads);
        }
        norm = std::sqrt(sum) * std::fabs(scale);
        if (args.check_finite && !std::isfinite(sum)) plan.check_finite(work);
        if (args.max_norm > 0) {
            if (std::isinf(sum) && std::all_of(work.tensors.begin(), work.tensors.end(), rmsprop::all_finite))
                refuse("InputError", "grads: the sum of their squares overflows, so max_norm cannot scale them");
            const double factor = args.max_norm / (norm + args.norm_eps);
            scale = factor < 1 ? scale * factor : norm != norm ? norm : scale;
        }
    }
    const rmsprop::Numbers numbers = plan.rule.numbers(args.lr, args.lr_max, scale);
    if (threads > 1) {
        nb::gil_scoped_release release;
        rmsprop::step(work.tensors.data(), count, numbers, threads);
    } else if (work.elements > 4096) {
        nb::gil_scoped_release release;
        rmsprop::step(work.tensors.data(), count, numbers, 1);
    } else {
        rmsprop::step(work.tensors.data(), count, numbers, 1);  // shorter than handing the GIL over
    }
    work.advance_steps();
    plan.stepped = work.tensors.size();
    ++plan.calls;
    return nb::float_(norm);
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
