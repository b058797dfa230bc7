// Foreign arrays as pointers: the only place that knows NumPy's buffers and torch's tensors.
//
// NumPy arrays come through the buffer protocol, torch tensors through the DLPack C exchange API (dlpack 1.2), which
// costs some 25 ns and no copy. Nothing is ever converted: what does not fit is refused.
#pragma once
#include <Python.h>

#include <cstdint>
#include <string>

#include "../kernel/step.hpp"

namespace border {

inline constexpr int kMaxDims = 8;

/// Element types that a view can have; `other` is any that no kernel takes.
enum class Element : std::uint8_t { float32, float64, bfloat16, float16, uint8, bits16, int64, other };

const char* name_of(Element element);

/// Where an array is and how it lies. Borrowed: whoever keeps a view keeps the array, and looks again before each use.
struct View {
    /// Point at `object`. Returns false, with `why` set, where it is not a CPU array or tensor.
    bool open(PyObject* object, std::string& why);

    void* data = nullptr;
    Element element = Element::other;
    bool read_only = false;
    int ndim = 0;
    std::ptrdiff_t size = 0;       // elements
    std::ptrdiff_t item_size = 0;  // bytes
    std::int64_t shape[kMaxDims];
    std::int64_t strides[kMaxDims];  // in elements; meaningless where size <= 1
    std::string dtype_name;          // filled for Element::other only

    std::ptrdiff_t bytes() const { return size * item_size; }
    /// Whether the memory begins at a multiple of the item size.
    bool aligned() const;
    /// Whether the elements fill their memory without gaps, in any order of the axes.
    bool dense() const;
    bool same_shape(const View& other) const;
    /// Whether element i of the memory is the same element in both (shapes are equal).
    bool same_layout(const View& other) const;
    /// Whether `object` is an aligned array of this dtype, shape and layout; `at` is where it is.
    bool fits(PyObject* object, bool written, void*& at) const;
    std::string shape_text() const;
    std::string layout_text() const;
};

/// Let tensors of exactly this type in; `exchange` is the capsule `Tensor.__dlpack_c_exchange_api__`.
void register_tensor_type(PyObject* type, PyObject* exchange);

}  // namespace border
