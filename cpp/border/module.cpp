// rmsprop._core: the table of contents of the compiled module.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "arrays.hpp"
#include "launch.hpp"
#include "refusal.hpp"
#include "step.hpp"
#include "threads.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

const std::map<std::string, rmsprop::Isa> kIsas = {
    {"baseline", rmsprop::Isa::baseline}, {"avx2", rmsprop::Isa::avx2}, {"avx512", rmsprop::Isa::avx512}};

template <class Enum>
Enum choice(const char* what, const std::string& name, const std::vector<const char*>& names) {
    const auto found = std::find(names.begin(), names.end(), name);
    if (found == names.end()) border::refuse("RuleError", std::string(what) + ": '" + name + "' is not known");
    return static_cast<Enum>(found - names.begin());
}

void init_rule(border::Rule* self, double rho, double eps, const std::string& eps_mode, bool centered, double var_floor,
               bool bias_correction, const std::string& buffer, double momentum, const std::string& nesterov,
               double weight_decay, const std::string& weight_decay_mode, bool maximize, const std::string& rounding) {
    new (self) border::Rule{
        rho,
        eps,
        var_floor,
        momentum,
        weight_decay,
        choice<border::Rule::Eps>("eps_mode", eps_mode, {"outside", "inside", "max"}),
        choice<border::Rule::Buffer>("buffer", buffer, {"none", "unit", "lr"}),
        choice<border::Rule::Decay>("weight_decay_mode", weight_decay_mode,
                                    {"none", "l2", "decoupled", "decoupled_corrected", "in_buffer"}),
        centered,
        bias_correction,
        nesterov == "post",
        maximize,
        choice<rmsprop::Rounding>("rounding", rounding, {"nearest", "stochastic", "compensated"}),
    };
}

/// Read an attribute of rmsprop._step.StepArgs; the names are interned once.
template <class Number>
Number attribute(nb::handle args, PyObject* name) {
    return nb::cast<Number>(nb::steal(PyObject_GetAttr(args.ptr(), name)));
}

border::Args read_args(nb::handle args) {
    static PyObject* const lr = PyUnicode_InternFromString("lr");
    static PyObject* const lr_max = PyUnicode_InternFromString("lr_max");
    static PyObject* const scale = PyUnicode_InternFromString("scale");
    static PyObject* const max_norm = PyUnicode_InternFromString("max_norm");
    static PyObject* const norm_eps = PyUnicode_InternFromString("norm_eps");
    static PyObject* const check_finite = PyUnicode_InternFromString("check_finite");
    static PyObject* const seed = PyUnicode_InternFromString("seed");
    static PyObject* const threads = PyUnicode_InternFromString("threads");
    return {attribute<double>(args, lr),          attribute<double>(args, lr_max),
            attribute<double>(args, scale),       attribute<double>(args, max_norm),
            attribute<double>(args, norm_eps),    attribute<bool>(args, check_finite),
            attribute<std::uint64_t>(args, seed), attribute<int>(args, threads)};
}

nb::object step(border::Plan& plan, nb::list grads, nb::object args, bool strict) {
    return border::step(plan, grads, read_args(args), strict);
}

void step_on_device(border::Plan& plan, nb::list grads, nb::object args, nb::object launch, std::uintptr_t lr,
                    std::uintptr_t lr_max, std::uintptr_t grad_scale, std::uintptr_t found_inf, std::uintptr_t norm) {
    border::step_on_device(plan, grads, read_args(args), {lr, lr_max, grad_scale, found_inf, norm}, launch);
}

// A hook of a parameter can keep the optimizer alive, and the optimizer the plan: only the collector ends such a
// circle.
int traverse_plan(PyObject* self, visitproc visit, void* arg) {
    Py_VISIT(Py_TYPE(self));
    return nb::inst_ready(self) ? nb::inst_ptr<border::Plan>(self)->traverse(visit, arg) : 0;
}

int clear_plan(PyObject* self) {
    nb::inst_ptr<border::Plan>(self)->clear();
    return 0;
}

PyType_Slot kPlanSlots[] = {{Py_tp_traverse, reinterpret_cast<void*>(traverse_plan)},
                            {Py_tp_clear, reinterpret_cast<void*>(clear_plan)},
                            {0, nullptr}};

std::string isa() {
    for (const auto& [name, isa] : kIsas)
        if (isa == rmsprop::current_isa()) return name;
    return "";
}

std::vector<std::string> isas() {
    std::vector<std::string> names;
    for (const auto& [name, isa] : kIsas)
        if (rmsprop::has_isa(isa)) names.push_back(name);
    return names;
}

void set_isa(const std::string& name) {
    const auto found = kIsas.find(name);
    if (found == kIsas.end() || !rmsprop::has_isa(found->second))
        border::refuse("InputError", "isa: '" + name + "', expected one of _core.isas()");
    rmsprop::set_isa(found->second);
}

void register_tensor_type(nb::object type, nb::object exchange) {
    border::register_tensor_type(type.ptr(), exchange.ptr());
    if (PyErr_Occurred()) throw nb::python_error();
}

}  // namespace

NB_MODULE(_core, m) {
    // torch keeps parameters, and what hooks of theirs refer to, in C++ until after the interpreter has ended: an
    // optimizer's plan that is still alive then is no leak.
    nb::set_leak_warnings(false);
    m.doc() = "The compiled step. cpp/kernel computes, cpp/border checks; rmsprop.formula is the specification.";
    nb::class_<border::Rule>(m, "Rule", "The switches of rmsprop.Rule, read once.")
        .def("__init__", &init_rule, nb::kw_only(), "rho"_a, "eps"_a, "eps_mode"_a, "centered"_a, "var_floor"_a,
             "bias_correction"_a, "buffer"_a, "momentum"_a, "nesterov"_a, "weight_decay"_a, "weight_decay_mode"_a,
             "maximize"_a, "rounding"_a = "nearest");
    nb::class_<border::Plan>(m, "Plan", nb::type_slots(kPlanSlots),
                             "The arrays of an optimizer: opened and checked once, looked at again at every step.")
        .def(nb::init<const border::Rule&, nb::list, nb::tuple, nb::object, nb::object, std::uint64_t>(), "rule"_a,
             "params"_a, "buffers"_a, "steps"_a, "names"_a = nb::none(), "first"_a = 0)
        .def(nb::init<const border::Rule&, nb::list, nb::list, nb::tuple, nb::object, std::uint64_t>(), "rule"_a,
             "params"_a, "states"_a, "keys"_a, "names"_a = nb::none(), "first"_a = 0)
        .def_ro("stepped", &border::Plan::stepped, "How many parameters the last step changed.")
        .def_rw("calls", &border::Plan::calls, "Steps done; the kernel counts, so an interrupt cannot lose one.")
        .def("check", &border::Plan::check, "Refuse parameters and buffers that no step could take; write nothing.");
    m.def("step", &step, "plan"_a, "grads"_a, "args"_a, "strict"_a = true,
          "Do one step in place; return the global norm of the gradients, or NaN where nothing asked for it. Where not "
          "strict: return None, with nothing changed, if an array is not as the plan needs it.");
    m.def("step_on_device", &step_on_device, "plan"_a, "grads"_a, "args"_a, "launch"_a, nb::kw_only(), "lr"_a = 0,
          "lr_max"_a = 0, "grad_scale"_a = 0, "found_inf"_a = 0, "norm"_a = 0,
          "Check a step, call launch(rows, row_of_chunk, [(blocks, argument), ...]) and count it. The numbers are "
          "addresses on the device.");
    m.def("global_norm", &border::global_norm, "grads"_a, "threads"_a = 0,
          "Return the square root of the sum of all squares, the same for every thread count.");
    m.def("move_bytes", &border::move_bytes, "params"_a, "grads"_a, "squares"_a, "threads"_a = 1,
          "Move the bytes of a plain step and compute next to nothing: the limit bench/ measures against.");
    m.def("register_tensor_type", &register_tensor_type, "type"_a, "exchange"_a,
          "Let tensors of exactly this type in, through their DLPack C exchange API.");
    m.def("set_threads", &border::set_threads, "threads"_a, "Set the default number of threads; 0: OpenMP's own.");
    m.def("threads", &border::threads, "Return the default number of threads.");
    m.def("isa", &isa, "Return the instruction set in use.");
    m.def("isas", &isas, "Return the instruction sets that this machine can run.");
    m.def("set_isa", &set_isa, "name"_a, "Use this instruction set; the results are the same bits.");
    border::set_threads(0);
}
