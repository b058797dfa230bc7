#include "batch.hpp"

#include <nanobind/stl/string.h>

#include <algorithm>
#include <cmath>

#include "refusal.hpp"

namespace nb = nanobind;

namespace border {

using rmsprop::Dtype;
using rmsprop::Tensor;

namespace {

constexpr const char* kKindNames[] = {"mean_sq", "mean_grad", "grad_var", "momentum_buf", "block_max", "lost_bits"};

const char* name_of(Kind kind) { return kKindNames[static_cast<int>(kind)]; }
bool is_square(Kind kind) { return kind == Kind::mean_sq || kind == Kind::grad_var; }

std::uint64_t mixed(std::uint64_t x) {
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

}  // namespace

std::string dtype_text(const View& view) {
    return view.element == Element::other ? view.dtype_name : std::string(name_of(view.element));
}

Dtype kernel_dtype(Element element) {
    switch (element) {
        case Element::float64: return Dtype::float64;
        case Element::bfloat16: return Dtype::bfloat16;
        case Element::float16: return Dtype::float16;
        case Element::uint8: return Dtype::code8;
        default: return Dtype::float32;
    }
}

bool is_parameter_dtype(Element e) {
    return e == Element::float32 || e == Element::float64 || e == Element::bfloat16 || e == Element::float16;
}

std::string Batch::name(const char* list, std::size_t i) const {
    std::string suffix = "[" + std::to_string(i) + "]";
    if (!names_.is_none()) suffix = nb::cast<std::string>(nb::borrow<nb::list>(names_)[i]);
    return list + suffix;
}

const View& Batch::open(nb::handle object, const char* kind, std::size_t i) {
    View& view = views_.emplace_back();
    std::string why;
    if (!view.open(object.ptr(), why)) refuse("InputTypeError", name(kind, i) + ": " + why);
    return view;
}

void Batch::aligned(const View& view, const char* kind, std::size_t i) const {
    if (!view.aligned()) refuse("InputError", name(kind, i) + ": memory that is not aligned to its item size");
}

void Batch::writable(const View& view, const char* kind, std::size_t i) const {
    if (view.read_only) refuse("InputError", name(kind, i) + ": read-only, expected a writable array");
}

void Batch::fits(const View& view, const char* kind, std::size_t i, const View& param) const {
    if (!view.same_shape(param))
        refuse("InputError", name(kind, i) + ": shape " + view.shape_text() + ", expected " + param.shape_text() +
                                 " like " + name("params", i));
    if (!view.same_layout(param))
        refuse("InputError", name(kind, i) + ": " + view.layout_text() + ", expected " + param.layout_text() +
                                 " like " + name("params", i) + "; copy it into that memory order first");
    aligned(view, kind, i);
}

void Batch::read(const Rule& rule, nb::list params, nb::list grads, nb::tuple buffers, nb::object steps) {
    const std::size_t count = nb::len(params);
    if (nb::len(grads) != count)
        refuse("InputError", "grads: " + std::to_string(nb::len(grads)) + " arrays, expected " + std::to_string(count) +
                                 ", one for each of params");
    read_lists(rule, buffers, count);
    const bool one_array = !steps.is_none() && !nb::isinstance<nb::list>(steps);
    if (one_array) read_step_array(steps, count);
    else if (!steps.is_none() && nb::len(steps) != count)
        refuse("InputError", "steps: expected one count for each of params");

    stride_ = 2 + kinds_.size();
    views_.reserve(count * stride_);  // so that references into views_ stay valid
    tensors.reserve(count);
    steps_.reserve(count);
    positions_.reserve(count);
    for (std::size_t i = 0; i < count; ++i) {
        nb::handle grad = grads[i];
        if (grad.is_none()) continue;
        read_tensor(rule, params[i], grad, i);
        if (one_array) {
            steps_.emplace_back();
            steps_.back().at = static_cast<std::int64_t*>(counts_.data) + i;
        } else if (!steps.is_none()) {
            read_step(nb::borrow<nb::list>(steps)[i], i);
        }
    }
}

void Batch::read_lists(const Rule& rule, nb::tuple buffers, std::size_t count) {
    if (rule.centered) kinds_ = {Kind::mean_grad, Kind::grad_var};
    else kinds_ = {Kind::mean_sq};
    if (rule.buffer != Rule::Buffer::none) kinds_.push_back(Kind::momentum_buf);
    const std::size_t statistics = kinds_.size();
    const bool compensated = rule.rounding == rmsprop::Rounding::compensated;
    code8_ = nb::len(buffers) == statistics + compensated + 1;
    if (code8_) kinds_.push_back(Kind::block_max);
    if (compensated) kinds_.push_back(Kind::lost_bits);
    if (nb::len(buffers) != kinds_.size())
        refuse("InputError", "buffers: " + std::to_string(nb::len(buffers)) + " lists, expected " +
                                 std::to_string(statistics) + " for this rule");
    for (std::size_t k = 0; k < kinds_.size(); ++k) {
        if (!nb::isinstance<nb::list>(buffers[k])) refuse("InputTypeError", "buffers: expected a tuple of lists");
        lists_.push_back(nb::borrow<nb::list>(buffers[k]));
        if (nb::len(lists_[k]) != count)
            refuse("InputError", std::string(name_of(kinds_[k])) + ": " + std::to_string(nb::len(lists_[k])) +
                                     " arrays, expected " + std::to_string(count) + ", one for each of params");
    }
}

void Batch::read_tensor(const Rule& rule, nb::handle param, nb::handle grad, std::size_t i) {
    const View& p = open(param, "params", i);
    if (!is_parameter_dtype(p.element))
        refuse("InputTypeError",
               name("params", i) + ": " + dtype_text(p) + ", expected float32, float64, bfloat16 or float16");
    aligned(p, "params", i);
    writable(p, "params", i);
    if (!p.dense())
        refuse("InputError", name("params", i) + ": shape " + p.shape_text() + " with " + p.layout_text() +
                                 " leaves gaps, expected dense memory; pass a copy");
    const View& g = open(grad, "grads", i);
    if (g.element != p.element)
        refuse("InputTypeError",
               name("grads", i) + ": " + dtype_text(g) + ", expected " + dtype_text(p) + " like " + name("params", i));
    fits(g, "grads", i, p);

    Tensor t{};
    t.param = p.data;
    t.grad = g.data;
    t.size = p.size;
    t.dtype = kernel_dtype(p.element);
    t.rounding = rule.rounding;
    if (t.rounding == rmsprop::Rounding::compensated && t.dtype != Dtype::bfloat16)
        refuse("InputTypeError", name("params", i) + ": " + dtype_text(p) +
                                     ", expected bfloat16: compensated rounding keeps the 16 bits that bfloat16 cuts "
                                     "off a float32");
    if (t.dtype == Dtype::float32 || t.dtype == Dtype::float64) t.rounding = rmsprop::Rounding::nearest;  // no rounding
    for (std::size_t k = 0; k < kinds_.size(); ++k) read_buffer(t, p, kinds_[k], lists_[k][i], i);
    elements += t.size;
    tensors.push_back(t);
    positions_.push_back(i);
}

void Batch::read_buffer(Tensor& t, const View& p, Kind kind, nb::handle array, std::size_t i) {
    const View& b = open(array, name_of(kind), i);
    writable(b, name_of(kind), i);
    if (kind == Kind::block_max) {
        const std::ptrdiff_t blocks = (p.size + rmsprop::kBlock - 1) / rmsprop::kBlock;
        if (b.element != Element::float32 || b.size != blocks || !b.aligned() || !b.dense())
            refuse("InputError", name(name_of(kind), i) + ": " + dtype_text(b) + " of shape " + b.shape_text() +
                                     ", expected float32 of shape (" + std::to_string(blocks) + ",)");
        t.square_max = static_cast<float*>(b.data);
        return;
    }
    fits(b, name_of(kind), i, p);
    if (kind == Kind::lost_bits) {
        if (b.element != Element::bits16)
            refuse("InputTypeError", name(name_of(kind), i) + ": " + dtype_text(b) + ", expected int16");
        t.lost = static_cast<std::uint16_t*>(b.data);
        return;
    }
    if (code8_ && t.dtype == Dtype::float64)
        refuse("InputTypeError", name("params", i) +
                                     ": float64, expected float32, bfloat16 or float16: no 8-bit state " +
                                     "holds float64 statistics");
    // Statistics are of the arithmetic's type; narrower ones are asked for by passing them.
    Element expected = t.dtype == Dtype::float64 ? Element::float64 : Element::float32;
    if (code8_) expected = is_square(kind) ? Element::uint8 : Element::bfloat16;
    const bool narrow = !code8_ && t.dtype != Dtype::float64 && b.element == Element::bfloat16;
    if (b.element != expected && !narrow)
        refuse("InputTypeError", name(name_of(kind), i) + ": " + dtype_text(b) + ", expected " + name_of(expected) +
                                     " for " + dtype_text(p) + " parameters");
    const View& first = views_[(views_.size() - 1) / stride_ * stride_ + 2];
    if (!code8_ && b.element != first.element)
        refuse("InputTypeError", name(name_of(kind), i) + ": " + dtype_text(b) + ", expected " + dtype_text(first) +
                                     " like the other statistics");
    (is_square(kind) ? t.square : kind == Kind::mean_grad ? t.mean : t.buffer) = b.data;
    if (is_square(kind)) t.state = kernel_dtype(b.element);
}

void Batch::read_step_array(nb::handle steps, std::size_t count) {
    std::string why;
    if (!counts_.open(steps.ptr(), why)) refuse("InputTypeError", "steps: " + why);
    if (counts_.element != Element::int64 || counts_.ndim != 1 || !counts_.aligned() || !counts_.dense() ||
        counts_.read_only || counts_.size != static_cast<std::ptrdiff_t>(count))
        refuse("InputError", "steps: " + dtype_text(counts_) + " of shape " + counts_.shape_text() +
                                 ", expected a writable int64 array of shape (" + std::to_string(count) + ",)");
}

void Batch::read_step(nb::handle step, std::size_t i) {
    Step& one = steps_.emplace_back();
    std::string why;
    if (!one.view.open(step.ptr(), why)) refuse("InputTypeError", name("steps", i) + ": " + why);
    const Element e = one.view.element;
    if (one.view.size != 1 || one.view.read_only || !one.view.aligned() ||
        (e != Element::float32 && e != Element::float64 && e != Element::int64))
        refuse("InputError", name("steps", i) + ": expected one writable float32, float64 or int64 number");
    one.at = one.view.data;
    one.element = e;
}

void Batch::check_overlap(bool with_grads) const {
    struct Interval {
        const char *begin, *end;
        std::size_t view;
    };
    const auto interval = [&](std::size_t v) {
        const char* begin = static_cast<const char*>(views_[v].data);
        return Interval{begin, begin + views_[v].bytes(), v};
    };
    const auto label = [&](std::size_t v) {
        const std::size_t k = v % stride_;
        const std::size_t i = positions_[v / stride_];
        return name(k == 0 ? "params" : k == 1 ? "grads" : name_of(kinds_[k - 2]), i);
    };
    std::vector<Interval> written;
    written.reserve(views_.size());
    for (std::size_t v = 0; v < views_.size(); ++v)
        if (v % stride_ != 1 && views_[v].size > 0) written.push_back(interval(v));
    const auto before = [](const Interval& a, const Interval& b) { return a.begin < b.begin; };
    std::sort(written.begin(), written.end(), before);
    const auto refuse_pair = [&](std::size_t a, std::size_t b) {
        refuse("InputError", label(std::max(a, b)) + ": shares memory with " + label(std::min(a, b)) +
                                 ", expected memory of its own");
    };
    for (std::size_t w = 1; w < written.size(); ++w)
        if (written[w].begin < written[w - 1].end) refuse_pair(written[w - 1].view, written[w].view);
    for (std::size_t v = 1; with_grads && v < views_.size(); v += stride_) {
        if (views_[v].size == 0) continue;
        const Interval grad = interval(v);
        auto next = std::upper_bound(written.begin(), written.end(), grad, before);
        if (next != written.end() && next->begin < grad.end) refuse_pair(v, next->view);
        if (next != written.begin() && std::prev(next)->end > grad.begin) refuse_pair(v, std::prev(next)->view);
    }
}

void Batch::prepare(const Rule& rule, const Call& call) {
    for (std::size_t i = 0; i < tensors.size(); ++i) {
        Tensor& t = tensors[i];
        const double step = steps_[i].value() + 1;
        t.fresh = 1.0 - rule.rho;
        t.rho = rule.rho;
        t.first = 0;
        if (rule.bias_correction) {
            t.fresh = t.fresh / (1.0 - std::pow(rule.rho, step));
            t.rho = 1.0 - t.fresh;
            t.first = rule.centered && step == 1 ? 1 : 0;
        }
        t.key = mixed(mixed(mixed(call.seed) + call.first + positions_[i]) + static_cast<std::uint64_t>(step));
    }
}

void Batch::check_finite() const {
    for (std::size_t i = 0; i < tensors.size(); ++i)
        if (!rmsprop::all_finite(tensors[i]))
            refuse("InputError", name("grads", positions_[i]) + ": NaN or infinity, expected finite numbers");
}

}  // namespace border
