#include "plan.hpp"

#include <nanobind/stl/string.h>

#include <algorithm>
#include <cmath>

#include "refusal.hpp"

namespace nb = nanobind;

namespace border {

using rmsprop::Dtype;
using rmsprop::Tensor;

namespace {

constexpr const char* kKindNames[] = {"mean_sq", "mean_grad", "grad_var", "momentum_buf", "block_scale", "lost_bits"};

const char* name_of(Kind kind) { return kKindNames[static_cast<int>(kind)]; }
bool is_square(Kind kind) { return kind == Kind::mean_sq || kind == Kind::grad_var; }

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

Plan::Plan(const Rule& rule, nb::list params, nb::tuple buffers, nb::object steps, nb::object names,
           std::uint64_t first)
    : rule(rule),
      params_(params),
      buffers_(buffers),
      steps_(steps),
      names_(names),
      first_(first),
      dicts_(false) {
    const std::size_t count = nb::len(params);
    read_kinds(nb::len(buffers));
    for (std::size_t k = 0; k < kinds_.size(); ++k) {
        const nb::object list = buffers[k];
        if (!nb::isinstance<nb::list>(list)) refuse("InputTypeError", "buffers: expected a tuple of lists");
        if (nb::len(list) != count)
            refuse("InputError", std::string(name_of(kinds_[k])) + ": " + std::to_string(nb::len(list)) +
                                     " arrays, expected " + std::to_string(count) + ", one for each of params");
    }
    one_array_ = !nb::isinstance<nb::list>(steps);
    if (!one_array_ && nb::len(steps) != count) refuse("InputError", "steps: expected one count for each of params");
    columns_ = 2 + kinds_.size() - one_array_;
    held_.resize(count * columns_);
    rows_.resize(count);
    for (std::size_t i = 0; i < count; ++i) held_[i * columns_].object = params[i];
}

Plan::Plan(const Rule& rule, nb::list params, nb::list states, nb::tuple keys, nb::object names, std::uint64_t first)
    : rule(rule),
      params_(params),
      buffers_(states),
      steps_(keys),
      names_(names),
      first_(first),
      dicts_(true) {
    const std::size_t count = nb::len(params);
    if (nb::len(states) != count) refuse("InputError", "states: expected one for each of params");
    read_kinds(nb::len(keys) - 1);
    columns_ = 2 + kinds_.size();
    held_.resize(count * columns_);
    rows_.resize(count);
    for (std::size_t i = 0; i < count; ++i) held_[i * columns_].object = params[i];
}

void Plan::read_kinds(std::size_t lists) {
    if (rule.centered) kinds_ = {Kind::mean_grad, Kind::grad_var};
    else kinds_ = {Kind::mean_sq};
    if (rule.buffer != Rule::Buffer::none) kinds_.push_back(Kind::momentum_buf);
    const std::size_t statistics = kinds_.size();
    const bool compensated = rule.rounding == rmsprop::Rounding::compensated;
    code8_ = lists == statistics + compensated + 1;
    if (code8_) kinds_.push_back(Kind::block_scale);
    if (compensated) kinds_.push_back(Kind::lost_bits);
    if (lists != kinds_.size())
        refuse("InputError", "buffers: " + std::to_string(lists) + " lists, expected " + std::to_string(statistics) +
                                 " for this rule");
}

int Plan::traverse(visitproc visit, void* arg) const {
    for (nb::handle object : {nb::handle(params_), nb::handle(buffers_), nb::handle(steps_), nb::handle(names_)})
        Py_VISIT(object.ptr());
    for (const Held& held : held_) Py_VISIT(held.object.ptr());
    return 0;
}

void Plan::clear() {
    rows_.clear();
    held_.clear();
    params_ = nb::list();
    buffers_ = nb::none();
    steps_ = nb::none();
    names_ = nb::none();
}

/// Return the array that the caller has now in a column of a row, or null.
nb::handle Plan::find(std::size_t i, std::size_t column) const {
    if (column == 0) return PyList_GetItem(params_.ptr(), i);
    if (dicts_) {
        PyObject* state = PyList_GetItem(buffers_.ptr(), i);
        return PyDict_Check(state) ? PyDict_GetItem(state, PyTuple_GetItem(steps_.ptr(), column - 1)) : nullptr;
    }
    PyObject* list = column - 1 < kinds_.size() ? PyTuple_GetItem(buffers_.ptr(), column - 1) : steps_.ptr();
    return static_cast<Py_ssize_t>(i) < PyList_Size(list) ? PyList_GetItem(list, i) : nullptr;
}

bool Plan::unchanged(std::size_t i) const {
    for (std::size_t c = 0; c < columns_; ++c) {
        const Held& held = held_[i * columns_ + c];
        const nb::handle now = find(i, c);
        void* at;
        if (now.ptr() != held.object.ptr() || !held.view.fits(now.ptr(), true, at) || at != held.view.data)
            return false;
    }
    return true;
}

std::string Plan::name(const char* list, std::size_t i) const {
    std::string suffix = "[" + std::to_string(i) + "]";
    if (!names_.is_none()) suffix = nb::cast<std::string>(nb::borrow<nb::list>(names_)[i]);
    return list + suffix;
}

const char* Plan::list_name(std::size_t column) const {
    return column == 0 ? "params" : column <= kinds_.size() ? name_of(kinds_[column - 1]) : "steps";
}

const View& Plan::open(std::size_t i, std::size_t column) {
    Held& held = held_[i * columns_ + column];
    const nb::handle object = find(i, column);
    if (!object.is_valid()) refuse("InputTypeError", name(list_name(column), i) + ": missing, expected an array");
    held.object = nb::borrow(object);
    held.view = View();
    std::string why;
    if (!held.view.open(object.ptr(), why)) refuse("InputTypeError", name(list_name(column), i) + ": " + why);
    return held.view;
}

void Plan::aligned(const View& view, const char* kind, std::size_t i) const {
    if (!view.aligned()) refuse("InputError", name(kind, i) + ": memory that is not aligned to its item size");
}

void Plan::writable(const View& view, const char* kind, std::size_t i) const {
    if (view.read_only) refuse("InputError", name(kind, i) + ": read-only, expected a writable array");
}

void Plan::fits(const View& view, const char* kind, std::size_t i) const {
    const View& param = held_[i * columns_].view;
    if (!view.same_shape(param))
        refuse("InputError", name(kind, i) + ": shape " + view.shape_text() + ", expected " + param.shape_text() +
                                 " like " + name("params", i) +
                                 (view.size == param.size ? "; use reshape" + param.shape_text() : ""));
    if (!view.same_layout(param))
        refuse("InputError", name(kind, i) + ": " + view.layout_text() + ", expected " + param.layout_text() +
                                 " like " + name("params", i) + "; copy it into that memory order first");
    aligned(view, kind, i);
}

void Plan::open_row(std::size_t i) {
    Row& row = rows_[i];
    row.open = false;
    row.tensor = Tensor{};
    sorted_ = false;
    const View& p = open(i, 0);
    if (!is_parameter_dtype(p.element))
        refuse("InputTypeError",
               name("params", i) + ": " + dtype_text(p) + ", expected float32, float64, bfloat16 or float16");
    aligned(p, "params", i);
    writable(p, "params", i);
    if (!p.dense())
        refuse("InputError", name("params", i) + ": shape " + p.shape_text() + " with " + p.layout_text() +
                                 " leaves gaps, expected dense memory; pass a copy");
    Tensor& t = row.tensor;
    t.param = p.data;
    t.size = p.size;
    t.dtype = kernel_dtype(p.element);
    t.rounding = rule.rounding;
    if (t.rounding == rmsprop::Rounding::compensated && t.dtype != Dtype::bfloat16)
        refuse("InputTypeError", name("params", i) + ": " + dtype_text(p) +
                                     ", expected bfloat16: compensated rounding keeps the 16 bits that bfloat16 cuts "
                                     "off a float32");
    if (t.dtype == Dtype::float32 || t.dtype == Dtype::float64) t.rounding = rmsprop::Rounding::nearest;  // no rounding
    for (std::size_t k = 0; k < kinds_.size(); ++k) read_buffer(t, i, k + 1);
    if (!one_array_) {
        const View& step = open(i, columns_ - 1);
        const Element e = step.element;
        if (step.size != 1 || step.read_only || !step.aligned() ||
            (e != Element::float32 && e != Element::float64 && e != Element::int64))
            refuse("InputError", name("steps", i) + ": expected one writable float32, float64 or int64 number");
        row.step = {step.data, e};
    }
    row.open = true;
}

void Plan::read_buffer(Tensor& t, std::size_t i, std::size_t column) {
    const Kind kind = kinds_[column - 1];
    const View& p = held_[i * columns_].view;
    const View& b = open(i, column);
    writable(b, name_of(kind), i);
    if (kind == Kind::block_scale) {
        const std::ptrdiff_t blocks = (p.size + rmsprop::kBlock - 1) / rmsprop::kBlock;
        if (b.element != Element::float32 || b.size != blocks || !b.aligned() || !b.dense())
            refuse("InputError", name(name_of(kind), i) + ": " + dtype_text(b) + " of shape " + b.shape_text() +
                                     ", expected float32 of shape (" + std::to_string(blocks) + ",)");
        t.square_scale = static_cast<float*>(b.data);
        return;
    }
    fits(b, name_of(kind), i);
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
    const View& first = held_[i * columns_ + 1].view;
    if (!code8_ && b.element != first.element)
        refuse("InputTypeError", name(name_of(kind), i) + ": " + dtype_text(b) + ", expected " + dtype_text(first) +
                                     " like the other statistics");
    (is_square(kind) ? t.square : kind == Kind::mean_grad ? t.mean : t.buffer) = b.data;
    if (is_square(kind)) t.state = kernel_dtype(b.element);
}

void Plan::read_step_array() {
    View counts;
    std::string why;
    if (!counts.open(steps_.ptr(), why)) refuse("InputTypeError", "steps: " + why);
    if (counts.element != Element::int64 || counts.ndim != 1 || !counts.aligned() || !counts.dense() ||
        counts.read_only || counts.size != static_cast<std::ptrdiff_t>(rows_.size()))
        refuse("InputError", "steps: " + dtype_text(counts) + " of shape " + counts.shape_text() +
                                 ", expected a writable int64 array of shape (" + std::to_string(rows_.size()) + ",)");
    for (std::size_t i = 0; i < rows_.size(); ++i)
        rows_[i].step = {static_cast<std::int64_t*>(counts.data) + i, Element::int64};
}

void* Plan::open_grad(nb::handle grad, std::size_t i) const {
    const View& p = held_[i * columns_].view;
    View g;
    std::string why;
    if (!g.open(grad.ptr(), why)) refuse("InputTypeError", name("grads", i) + ": " + why);
    if (g.element != p.element)
        refuse("InputTypeError",
               name("grads", i) + ": " + dtype_text(g) + ", expected " + dtype_text(p) + " like " + name("params", i));
    fits(g, "grads", i);
    return g.data;
}

void Plan::check() {
    Work work;
    if (one_array_) read_step_array();
    for (std::size_t i = 0; i < rows_.size(); ++i) {
        open_row(i);
        work.places.push_back(i);
        work.tensors.push_back(rows_[i].tensor);
    }
    check_overlap(work, false);
}

bool Plan::read(nb::handle grads, bool strict, Work& work) {
    const std::size_t count = rows_.size();
    if (nb::len(grads) != count || nb::len(params_) != count) {
        if (!strict) return false;
        refuse("InputError", "grads: " + std::to_string(nb::len(grads)) + " arrays, expected " + std::to_string(count) +
                                 ", one for each of params");
    }
    work.tensors.reserve(count);
    work.places.reserve(count);
    work.steps.reserve(count);
    if (one_array_) read_step_array();
    bool alone = true;
    for (std::size_t i = 0; i < count; ++i) {
        PyObject* grad = PyTuple_GetItem(grads.ptr(), i);
        if (grad == Py_None) continue;
        if (PyList_GetItem(params_.ptr(), i) != held_[i * columns_].object.ptr()) return false;
        if (!rows_[i].open || !unchanged(i)) {
            if (strict) {
                open_row(i);
            } else {
                try {
                    open_row(i);
                } catch (nb::python_error&) {
                    return false;
                }
            }
        }
        void* at;
        if (!held_[i * columns_].view.fits(grad, false, at)) {
            if (!strict) return false;
            at = open_grad(grad, i);
        }
        Tensor& t = work.tensors.emplace_back(rows_[i].tensor);
        t.grad = at;
        work.elements += t.size;
        work.places.push_back(i);
        work.steps.push_back(rows_[i].step);
    }
    if (!sorted_) sort_written();
    for (std::size_t n = 0; alone && n < work.places.size(); ++n)
        alone = !meets_written(work.tensors[n].grad, work.places[n]);
    if (!apart_ || !alone) check_overlap(work, true);
    return true;
}

double Plan::fresh_at(double step) const {
    const double fresh = 1.0 - rule.rho;
    return rule.bias_correction ? fresh / (1.0 - std::pow(rule.rho, step)) : fresh;
}

void Plan::prepare(Work& work, std::uint64_t seed) const {
    for (std::size_t n = 0; n < work.tensors.size(); ++n) {
        Tensor& t = work.tensors[n];
        const double step = work.steps[n].value() + 1;
        rule.set_moment(t, step, fresh_at(step), seed, first_ + work.places[n]);
    }
}

void Plan::check_finite(const Work& work) const {
    for (std::size_t n = 0; n < work.tensors.size(); ++n)
        if (!rmsprop::all_finite(work.tensors[n]))
            refuse("InputError", name("grads", work.places[n]) + ": NaN or infinity, expected finite numbers");
}

}  // namespace border
