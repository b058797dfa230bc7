// What a step on a GPU is launched with: the table that stays on the device, and the kernels' arguments.
#pragma once
#include <nanobind/nanobind.h>

#include "plan.hpp"

namespace border {

/// Addresses on the device; 0: the number is that of `Args`, or there is none.
struct DeviceNumbers {
    std::uintptr_t lr, lr_max;             // float64
    std::uintptr_t grad_scale, found_inf;  // float32
    std::uintptr_t norm;                   // float64: the norm, a counter, and a partial sum for each chunk
};

/// Check a step as `step` does, call `launch(rows, row_of_chunk, launches)`, and count the step. `launches` is a list
/// of (blocks of the grid, the kernels' argument). All tensors of the plan are of one dtype and on one device.
void step_on_device(Plan& plan, nanobind::list grads, const Args& args, const DeviceNumbers& numbers,
                    nanobind::object launch);

}  // namespace border
