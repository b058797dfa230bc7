// The arrays of one call: read from Python, checked, and handed to the kernel as pointers.
#pragma once
#include <nanobind/nanobind.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "../kernel/step.hpp"
#include "arrays.hpp"
#include "rule.hpp"

namespace border {

/// A parameter's count of steps.
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

/// The views and tensors of one call, and the messages about them.
class Batch {
public:
    explicit Batch(nanobind::object names) : names_(std::move(names)) {}

    void read(const Rule& rule, nanobind::list params, nanobind::list grads, nanobind::tuple buffers,
              nanobind::object steps);
    void check_overlap(bool with_grads) const;
    void prepare(const Rule& rule, const Call& call);
    void check_finite() const;
    bool all_finite() const { return std::all_of(tensors.begin(), tensors.end(), rmsprop::all_finite); }
    void advance_steps() const {
        for (const Step& s : steps_) s.advance();
    }

    std::vector<rmsprop::Tensor> tensors;
    std::ptrdiff_t elements = 0;

private:
    void read_lists(const Rule& rule, nanobind::tuple buffers, std::size_t count);
    void read_tensor(const Rule& rule, nanobind::handle param, nanobind::handle grad, std::size_t i);
    void read_buffer(rmsprop::Tensor& t, const View& param, Kind kind, nanobind::handle array, std::size_t i);
    void read_step_array(nanobind::handle steps, std::size_t count);
    void read_step(nanobind::handle step, std::size_t i);

    // Names are put together only for a refusal.
    std::string name(const char* list, std::size_t i) const;
    const View& open(nanobind::handle object, const char* kind, std::size_t i);
    void fits(const View& view, const char* kind, std::size_t i, const View& param) const;
    void aligned(const View& view, const char* kind, std::size_t i) const;
    void writable(const View& view, const char* kind, std::size_t i) const;

    nanobind::object names_;
    std::vector<Kind> kinds_;
    std::vector<nanobind::list> lists_;
    bool code8_ = false;
    std::vector<View> views_;  // `stride_` per tensor: param, grad, one for each kind
    std::size_t stride_ = 0;
    std::vector<std::size_t> positions_;  // of each tensor in the caller's lists
    View counts_;                         // where the steps are one array
    std::vector<Step> steps_;
};

std::string dtype_text(const View& view);
rmsprop::Dtype kernel_dtype(Element element);
bool is_parameter_dtype(Element e);

}  // namespace border
