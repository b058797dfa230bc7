#include "step.hpp"

#include <nanobind/stl/string.h>
#include <pthread.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <vector>

#include "../kernel/ieee.hpp"
#include "arrays.hpp"

#if defined(_OPENMP)
#include <omp.h>
#endif

namespace nb = nanobind;

namespace border {
namespace {

using rmsprop::Dtype;
using rmsprop::Tensor;

/// Elements from which a second thread pays for its wake-up.
constexpr std::ptrdiff_t kParallelFrom = 1 << 16;
/// The same where nobody asked for threads. OpenMP's idle threads spin for milliseconds, and a BLAS that has threads of
/// its own (NumPy's) waits for them at every call; only in a long step is a second thread worth that.
constexpr std::ptrdiff_t kParallelFromUnasked = 1 << 22;

/// More threads than machines have cores; OpenMP ends the process when the system refuses it a thread.
constexpr int kMostThreads = 1024;

int g_threads = 0;
bool g_forked = false;

int most_threads() {
#if defined(_OPENMP)
    return omp_get_max_threads();
#else
    return 1;
#endif
}

int threads_for(std::ptrdiff_t elements, int asked) {
    // A child of fork() inherits an OpenMP runtime whose threads are gone; using it would hang.
    if (g_forked || elements < kParallelFrom) return 1;
    if (asked > 0) return std::min(asked, kMostThreads);
    return g_threads > 0 || elements >= kParallelFromUnasked ? threads() : 1;
}

struct Step {
    View view;  // empty where the counts are one array
    void* at = nullptr;
    Element element = Element::int64;

    double value() const {
        switch (element) {
            case Element::float32: return *static_cast<float*>(at);
            case Element::float64: return *static_cast<double*>(at);
            default: return static_cast<double>(*static_cast<std::int64_t*>(at));
        }
    }
    void advance() const {
        switch (element) {
            case Element::float32: *static_cast<float*>(at) += 1.0f; break;
            case Element::float64: *static_cast<double*>(at) += 1.0; break;
            default: *static_cast<std::int64_t*>(at) += 1; break;
        }
    }
};

/// What a list of arrays beside params and grads holds.
enum class Kind : std::uint8_t { mean_sq, mean_grad, grad_var, momentum_buf, block_max, lost_bits };
constexpr const char* kKindNames[] = {"mean_sq", "mean_grad", "grad_var", "momentum_buf", "block_max", "lost_bits"};

const char* name_of(Kind kind) { return kKindNames[static_cast<int>(kind)]; }
bool is_square(Kind kind) { return kind == Kind::mean_sq || kind == Kind::grad_var; }

/// The views and tensors of one call, and the messages about them.
class Batch {
public:
    explicit Batch(nb::object names) : names_(std::move(names)) {}

    void read(const Rule& rule, nb::list params, nb::list grads, nb::tuple buffers, nb::object steps);
    void check_overlap(bool with_grads) const;
    void prepare(const Rule& rule, const Call& call);
    void check_finite() const;
    bool all_finite() const { return std::all_of(tensors.begin(), tensors.end(), rmsprop::all_finite); }
    void advance_steps() const {
        for (const Step& s : steps_) s.advance();
    }

    std::vector<Tensor> tensors;
    std::ptrdiff_t elements = 0;

private:
    void read_lists(const Rule& rule, nb::tuple buffers, std::size_t count);
    void read_tensor(const Rule& rule, nb::handle param, nb::handle grad, std::size_t i);
    void read_buffer(Tensor& t, const View& param, Kind kind, nb::handle array, std::size_t i);
    void read_step_array(nb::handle steps, std::size_t count);
    void read_step(nb::handle step, std::size_t i);

    // Names are put together only for a refusal.
    std::string name(const char* list, std::size_t i) const;
    const View& open(nb::handle object, const char* kind, std::size_t i);
    void fits(const View& view, const char* kind, std::size_t i, const View& param) const;
    void aligned(const View& view, const char* kind, std::size_t i) const;
    void writable(const View& view, const char* kind, std::size_t i) const;

    nb::object names_;
    std::vector<Kind> kinds_;
    std::vector<nb::list> lists_;
    bool code8_ = false;
    std::vector<View> views_;  // `stride_` per tensor: param, grad, one for each kind
    std::size_t stride_ = 0;
    std::vector<std::size_t> positions_;  // of each tensor in the caller's lists
    View counts_;                         // where the steps are one array
    std::vector<Step> steps_;
};

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

std::uint64_t mixed(std::uint64_t x) {
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
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

/// As Python writes it: a NaN has no sign.
std::string number_text(double x) {
    if (std::isnan(x)) return "nan";
    char text[32];
    std::snprintf(text, sizeof text, "%g", x);
    return text;
}

}  // namespace

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

void set_threads(int threads) {
    if (threads < 0 || threads > kMostThreads)
        refuse("InputError", "threads: " + std::to_string(threads) + ", expected 0 (all) to 1024");
    static const int registered = pthread_atfork(nullptr, nullptr, [] { g_forked = true; });
    (void)registered;
    g_threads = threads;
}

int threads() { return g_threads > 0 ? g_threads : most_threads(); }

void refuse(const char* error_class, const std::string& message) {
    nb::object error = nb::module_::import_("rmsprop.errors").attr(error_class);
    PyErr_SetString(error.ptr(), message.c_str());
    throw nb::python_error();
}

}  // namespace border
