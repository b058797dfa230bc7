// How this folder says no: a class of rmsprop.errors, raised before any array has changed.
#pragma once
#include <nanobind/nanobind.h>

#include <string>

namespace border {

[[noreturn]] inline void refuse(const char* error_class, const std::string& message) {
    nanobind::object error = nanobind::module_::import_("rmsprop.errors").attr(error_class);
    PyErr_SetString(error.ptr(), message.c_str());
    throw nanobind::python_error();
}

}  // namespace border
