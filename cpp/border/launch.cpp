#include "launch.hpp"

#include <algorithm>
#include <vector>

#include "../cuda/launch.hpp"
#include "refusal.hpp"

namespace nb = nanobind;

namespace border {

using rmsprop::Launch;
using rmsprop::Number;
using rmsprop::Row;

namespace {

Number number(double value, std::uintptr_t at, bool wide) { return {value, reinterpret_cast<const void*>(at), wide}; }

template <class T>
nb::bytes bytes_of(const T* data, std::size_t count) {
    return nb::bytes(reinterpret_cast<const char*>(data), count * sizeof(T));
}

std::uint32_t chunks_of(const rmsprop::Tensor& t) {
    return static_cast<std::uint32_t>((t.size + rmsprop::kChunk - 1) / rmsprop::kChunk);
}

}  // namespace

void step_on_device(Plan& plan, nb::list grads, const Args& args, const DeviceNumbers& numbers, nb::object launch) {
    const auto held = nb::steal(PyList_AsTuple(grads.ptr()));
    Work work;
    if (!plan.read(held, true, work)) refuse("InputError", "params: the list has changed");
    const std::uint32_t count = static_cast<std::uint32_t>(work.tensors.size());
    std::vector<Row> rows;
    std::vector<std::uint32_t> row_of_chunk;
    for (std::uint32_t n = 0; n < count; ++n) {
        Row& row = rows.emplace_back();
        row.tensor = work.tensors[n];
        row.tensor.grad = nullptr;
        row.place = plan.first() + work.places[n];
        row.first_chunk = static_cast<std::uint32_t>(row_of_chunk.size());
        row_of_chunk.insert(row_of_chunk.end(), chunks_of(row.tensor), n);
    }
    nb::list launches;
    for (std::uint32_t first = 0; first < count; first += rmsprop::kRows) {
        const std::uint32_t last = std::min(first + rmsprop::kRows, count) - 1;
        const std::uint32_t blocks = rows[last].first_chunk + chunks_of(rows[last].tensor) - rows[first].first_chunk;
        if (blocks == 0) continue;
        Launch l{};
        l.rule = plan.rule;
        l.lr = number(args.lr, numbers.lr, true);
        l.lr_max = number(args.lr_max, numbers.lr_max, true);
        l.grad_scale = number(1.0, numbers.grad_scale, false);
        l.found_inf = number(0.0, numbers.found_inf, false);
        l.scale = args.scale;
        l.max_norm = args.max_norm;
        l.norm_eps = args.norm_eps;
        l.norm = reinterpret_cast<double*>(numbers.norm);
        l.seed = args.seed;
        l.first_row = first;
        l.first_chunk = rows[first].first_chunk;
        l.chunks = static_cast<std::uint32_t>(row_of_chunk.size());
        for (std::uint32_t n = first; n <= last; ++n) {
            const double step = work.steps[n].value() + 1;
            l.grad[n - first] = work.tensors[n].grad;
            l.fresh[n - first] = plan.fresh_at(step);
            l.step[n - first] = static_cast<std::uint32_t>(step);
        }
        launches.append(nb::make_tuple(blocks, bytes_of(&l, 1)));
    }
    launch(bytes_of(rows.data(), rows.size()), bytes_of(row_of_chunk.data(), row_of_chunk.size()), launches);
    work.advance_steps();
    plan.stepped = count;
    ++plan.calls;
}

}  // namespace border
