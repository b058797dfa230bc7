// The arrays of an optimizer: read from Python, checked, and handed to the kernel as pointers.
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
enum class Kind : std::uint8_t { mean_sq, mean_grad, grad_var, momentum_buf, block_scale, lost_bits };

/// What one step works on: the tensors that have a gradient, and their places in the caller's lists.
struct Work {
    std::vector<rmsprop::Tensor> tensors;
    std::vector<std::size_t> places;
    std::vector<Step> steps;
    std::ptrdiff_t elements = 0;

    void advance_steps() const {
        for (const Step& step : steps) step.advance();
    }
};

/// The parameters of many steps with what is written beside them, opened and checked where one first has a gradient.
///
/// Arrays can be given other memory between two steps (`tensor.data = ...`, `share_memory_()`, `array.shape = ...`), so
/// every step asks each where it is and how it lies, and opens again what has changed.
class Plan {
public:
    /// `buffers`: one list of arrays per name in Rule.buffers, then, for 8-bit states, the block maxima, then, for
    /// compensated rounding, the lost bits. `steps`: an int64 array with one count per parameter, or a list of arrays
    /// of one number. `names`: what follows `params` in a message, e.g. "['w']"; None: the place. `first`: the first
    /// parameter's place among all parameters of the optimizer, for the random bits.
    Plan(const Rule& rule, nanobind::list params, nanobind::tuple buffers, nanobind::object steps,
         nanobind::object names, std::uint64_t first);
    /// The same with the buffers and, last, the count kept under `keys` in one dict for each parameter. A parameter
    /// whose dict is None or lacks a key has nothing to be stepped with yet.
    Plan(const Rule& rule, nanobind::list params, nanobind::list states, nanobind::tuple keys, nanobind::object names,
         std::uint64_t first);

    /// Refuse parameters and buffers that no step could take.
    void check();
    /// Collect what has a gradient. False, where not `strict`: an array is not as the plan needs it.
    bool read(nanobind::handle grads, bool strict, Work& work);
    void prepare(Work& work, std::uint64_t seed) const;
    /// The weight of this step's gradient in the averages, corrected for the bias where the rule asks for it.
    double fresh_at(double step) const;
    std::uint64_t first() const { return first_; }
    void check_finite(const Work& work) const;

    int traverse(visitproc visit, void* arg) const;
    void clear();

    const Rule rule;
    std::size_t stepped = 0;  // tensors of the last step
    std::int64_t calls = 0;   // steps done; counted here, where no signal of Python's can come between

private:
    /// An array of the plan as it was when it was opened.
    struct Held {
        nanobind::object object;
        View view;
    };
    struct Row {
        bool open = false;
        rmsprop::Tensor tensor{};
        Step step;
        std::size_t gap = 0;  // of written_, in which its last gradient lay
    };
    struct Interval {
        const char *begin, *end;
        std::size_t place, column;
    };

    void read_kinds(std::size_t lists);
    nanobind::handle find(std::size_t i, std::size_t column) const;
    bool unchanged(std::size_t i) const;
    void open_row(std::size_t i);
    void read_buffer(rmsprop::Tensor& t, std::size_t i, std::size_t column);
    void read_step_array();
    void* open_grad(nanobind::handle grad, std::size_t i) const;
    void sort_written();
    bool meets_written(const void* grad, std::size_t i);
    void check_overlap(const Work& work, bool with_grads) const;
    Interval interval(std::size_t i, std::size_t column) const;

    // Names are put together only for a refusal.
    std::string name(const char* list, std::size_t i) const;
    const char* list_name(std::size_t column) const;
    const View& open(std::size_t i, std::size_t column);
    void fits(const View& view, const char* kind, std::size_t i) const;
    void aligned(const View& view, const char* kind, std::size_t i) const;
    void writable(const View& view, const char* kind, std::size_t i) const;

    nanobind::list params_;
    nanobind::object buffers_;  // a tuple of lists, or a list of dicts
    nanobind::object steps_;    // an array or a list; with dicts the tuple of keys
    nanobind::object names_;
    std::uint64_t first_;
    bool dicts_;
    bool one_array_ = false;  // steps_ is one
    bool code8_ = false;
    std::vector<Kind> kinds_;
    std::size_t columns_ = 0;  // of held_: the parameter, one for each kind, and the count where it is an array
    std::vector<Held> held_;
    std::vector<Row> rows_;
    std::vector<Interval> written_;  // of the open rows, sorted
    bool sorted_ = false;            // whether written_ is as the rows are now
    bool apart_ = false;             // whether no two of them meet
};

std::string dtype_text(const View& view);
rmsprop::Dtype kernel_dtype(Element element);
bool is_parameter_dtype(Element e);

}  // namespace border
