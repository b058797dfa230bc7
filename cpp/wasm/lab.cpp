// The kernel in the lab's page: one step of many points (x, y), with the formula of element.hpp and the numbers of
// cpp/kernel/rule.hpp. Compiled to WebAssembly by web/build.mjs; called by web/src/engine/kernel.ts.
//
// The points form a grid of columns x rows cells with the same count of points in each. A column has its own learning
// rate, a row its own rho and eps: one cell with 4096 starts, or 64 x 64 cells with one point each. Every array holds
// the x of all points, then the y of all points; a cell's points are neighbors, a column's cells too.
#define RMSPROP_ISA_NAMESPACE wasm
#include <initializer_list>

#include "../kernel/element.hpp"
#include "../kernel/rule.hpp"

#define EXPORT(name) extern "C" __attribute__((export_name(#name)))

namespace {

using rmsprop::wasm::Element;
using rmsprop::wasm::Rounded;

constexpr int kPoints = 64 * 64, kSide = 64;

double param[2 * kPoints], grad[2 * kPoints], square[2 * kPoints], mean[2 * kPoints], buffer[2 * kPoints];
double lr[kSide], rho[kSide], fresh[kSide], eps[kSide];
rmsprop::Rule rule;

template <bool Centered, bool Buffered, bool Plain>
void step_points(int first, int last, const Rounded<double>& c) {
    for (int i = first; i < last; ++i) {
        Element<double> e{param[i], square[i], mean[i], buffer[i]};
        rmsprop::wasm::step_element<double, Centered, Buffered, Plain>(e, grad[i], c);
        param[i] = e.param;
        square[i] = e.square;
        if constexpr (Centered) mean[i] = e.mean;
        if constexpr (Buffered) buffer[i] = e.buffer;
    }
}

template <bool Plain>
void step_cell(int first, int last, const Rounded<double>& c) {
    if (rule.centered) {
        if (rule.buffer != rmsprop::Rule::Buffer::none) step_points<true, true, Plain>(first, last, c);
        else step_points<true, false, Plain>(first, last, c);
    } else if (rule.buffer != rmsprop::Rule::Buffer::none) {
        step_points<false, true, Plain>(first, last, c);
    } else {
        step_points<false, false, Plain>(first, last, c);
    }
}

}  // namespace

EXPORT(param) double* get_param() { return param; }
EXPORT(grad) double* get_grad() { return grad; }
EXPORT(square) double* get_square() { return square; }
EXPORT(mean) double* get_mean() { return mean; }
EXPORT(buffer) double* get_buffer() { return buffer; }
EXPORT(lr) double* get_lr() { return lr; }
EXPORT(rho) double* get_rho() { return rho; }
EXPORT(fresh) double* get_fresh() { return fresh; }
EXPORT(eps) double* get_eps() { return eps; }

/// Choose the rule of the next steps; rho and eps come with the rows. Enumerations by their numbers in rmsprop::Rule.
EXPORT(choose)
void choose(double var_floor, double momentum, double weight_decay, int eps_mode, int buffer_mode, int decay,
            bool centered, bool nesterov, bool maximize) {
    rule = {};
    rule.var_floor = var_floor;
    rule.momentum = momentum;
    rule.weight_decay = weight_decay;
    rule.eps_mode = static_cast<rmsprop::Rule::Eps>(eps_mode);
    rule.buffer = static_cast<rmsprop::Rule::Buffer>(buffer_mode);
    rule.decay = static_cast<rmsprop::Rule::Decay>(decay);
    rule.centered = centered;
    rule.nesterov = nesterov;
    rule.maximize = maximize;
}

/// One step of all points; `first`: whether it is the first of a centered rule with bias correction.
EXPORT(step) void step(int columns, int rows, int points, bool first) {
    const int total = columns * rows * points;
    rmsprop::Tensor tensor{};
    tensor.first = first;
    for (int column = 0, at = 0; column < columns; ++column) {
        rule.eps = 0;
        Rounded<double> c(rule.numbers(lr[column], lr[column], 1.0), tensor);
        double& row_eps = rule.eps_mode == rmsprop::Rule::Eps::inside    ? c.eps_inside
                          : rule.eps_mode == rmsprop::Rule::Eps::outside ? c.eps_outside
                                                                         : c.eps_floor;
        for (int row = 0; row < rows; ++row, at += points) {
            c.rho = rho[row];
            c.fresh = fresh[row];
            row_eps = eps[row];
            for (int from : {at, total + at}) {
                if (c.is_plain()) step_cell<true>(from, from + points, c);
                else step_cell<false>(from, from + points, c);
            }
        }
    }
}
