#include "arrays.hpp"

#include <algorithm>
#include <vector>

namespace border {
namespace {

// The part of the DLPack 1.2 ABI that is read here (https://dmlc.github.io/dlpack/latest/c_api.html).
struct DLDevice {
    std::int32_t type, id;
};
struct DLDataType {
    std::uint8_t code, bits;
    std::uint16_t lanes;
};
struct DLTensor {
    void* data;
    DLDevice device;
    std::int32_t ndim;
    DLDataType dtype;
    std::int64_t* shape;
    std::int64_t* strides;
    std::uint64_t byte_offset;
};
struct ExchangeHeader {
    std::uint32_t major, minor;
    ExchangeHeader* previous;
};
struct Exchange {
    ExchangeHeader header;
    void* managed_tensor_allocator;
    void* managed_tensor_from_object;
    void* managed_tensor_to_object;
    int (*tensor_from_object)(void* object, DLTensor* out);
    void* current_work_stream;
};
constexpr std::int32_t kCpu = 1;

struct TensorType {
    PyObject* type;
    const Exchange* exchange;
};
std::vector<TensorType> g_tensor_types;  // under the GIL; two entries: Tensor and Parameter

const Exchange* exchange_of(PyObject* object) {
    PyObject* type = reinterpret_cast<PyObject*>(Py_TYPE(object));
    for (const TensorType& known : g_tensor_types)
        if (known.type == type) return known.exchange;
    return nullptr;
}

Element element_of(DLDataType t) {
    if (t.lanes != 1) return Element::other;
    switch (t.code << 8 | t.bits) {
        case 2 << 8 | 32: return Element::float32;
        case 2 << 8 | 64: return Element::float64;
        case 2 << 8 | 16: return Element::float16;
        case 4 << 8 | 16: return Element::bfloat16;
        case 1 << 8 | 8: return Element::uint8;
        case 0 << 8 | 16: return Element::bits16;
        case 0 << 8 | 64: return Element::int64;
        default: return Element::other;
    }
}

Element element_of(const char* format, std::ptrdiff_t item_size) {
    if (format == nullptr) return Element::uint8;
    if (*format == '@' || *format == '=' || *format == '<') ++format;  // '<' is native on the machines compiled for
    if (format[0] == '\0' || format[1] != '\0') return Element::other;
    switch (format[0]) {
        case 'f': return Element::float32;
        case 'd': return Element::float64;
        case 'e': return Element::float16;
        case 'B': return Element::uint8;
        case 'h':
        case 'H': return Element::bits16;
        case 'l':
        case 'q': return item_size == 8 ? Element::int64 : Element::other;
        default: return Element::other;
    }
}

/// What the caller calls the dtype of `object`: str(object.dtype).
std::string dtype_text(PyObject* object) {
    std::string text = "an unknown dtype";
    PyObject* dtype = PyObject_GetAttrString(object, "dtype");
    PyObject* string = dtype == nullptr ? nullptr : PyObject_Str(dtype);
    const char* utf8 = string == nullptr ? nullptr : PyUnicode_AsUTF8AndSize(string, nullptr);
    if (utf8 != nullptr) text = utf8;
    PyErr_Clear();
    Py_XDECREF(string);
    Py_XDECREF(dtype);
    return text;
}

template <class Numbers>
std::string tuple_text(const Numbers* numbers, int n) {
    std::string text = "(";
    for (int i = 0; i < n; ++i) text += (i ? ", " : "") + std::to_string(numbers[i]);
    return text + (n == 1 ? ",)" : ")");
}

bool read_buffer(View& view, PyObject* object, const Py_buffer& buffer, std::string& why) {
    if (buffer.itemsize < 1) {
        why = dtype_text(object) + ", expected float32 or float64";
        return false;
    }
    if (buffer.ndim > kMaxDims) {
        why = "an array of more than 8 dimensions";
        return false;
    }
    view.data = buffer.buf;
    view.item_size = buffer.itemsize;
    view.element = element_of(buffer.format, view.item_size);
    if (view.element == Element::other) view.dtype_name = dtype_text(object);
    view.read_only = buffer.readonly != 0;
    view.ndim = buffer.ndim;
    view.size = 1;
    for (int i = 0; i < view.ndim; ++i) {
        view.shape[i] = buffer.shape[i];
        view.size *= view.shape[i];
        if (buffer.strides[i] % view.item_size != 0) {
            why = "an array with strides that are not multiples of its item size";
            return false;
        }
        view.strides[i] = buffer.strides[i] / view.item_size;
    }
    return true;
}

bool open_buffer(View& view, PyObject* object, std::string& why) {
    if (!PyObject_CheckBuffer(object) || PyBytes_Check(object) || PyByteArray_Check(object)) {
        PyObject* name = PyObject_GetAttrString(reinterpret_cast<PyObject*>(Py_TYPE(object)), "__name__");
        const char* utf8 = name == nullptr ? nullptr : PyUnicode_AsUTF8AndSize(name, nullptr);
        why = std::string("a ") + (utf8 == nullptr ? "value" : utf8) + ", expected a NumPy array";
        PyErr_Clear();
        Py_XDECREF(name);
        return false;
    }
    Py_buffer buffer;
    if (PyObject_GetBuffer(object, &buffer, PyBUF_STRIDED_RO | PyBUF_FORMAT) != 0) {
        PyErr_Clear();
        why = dtype_text(object) + ", expected float32 or float64";
        return false;
    }
    const bool read = read_buffer(view, object, buffer, why);
    PyBuffer_Release(&buffer);
    return read;
}

}  // namespace

const char* name_of(Element element) {
    switch (element) {
        case Element::float32: return "float32";
        case Element::float64: return "float64";
        case Element::bfloat16: return "bfloat16";
        case Element::float16: return "float16";
        case Element::uint8: return "uint8";
        case Element::bits16: return "int16";
        case Element::int64: return "int64";
        default: return "another dtype";
    }
}

bool View::open(PyObject* object, std::string& why) {
    const Exchange* exchange = exchange_of(object);
    if (exchange == nullptr) return open_buffer(*this, object, why);

    DLTensor t;
    if (exchange->tensor_from_object(object, &t) != 0) {
        PyErr_Clear();
        why = "a tensor without dense memory of its own";
        return false;
    }
    if (t.device.type != kCpu) {
        why = "a tensor that is not on the CPU";
        return false;
    }
    if (t.ndim > kMaxDims) {
        why = "an array of more than 8 dimensions";
        return false;
    }
    data = static_cast<char*>(t.data) + t.byte_offset;
    element = element_of(t.dtype);
    if (element == Element::other)
        dtype_name = "dtype code " + std::to_string(t.dtype.code) + " of " + std::to_string(t.dtype.bits) + " bits";
    ndim = t.ndim;
    item_size = t.dtype.bits / 8;
    size = 1;
    for (int i = 0; i < ndim; ++i) {
        shape[i] = t.shape[i];
        strides[i] = t.strides[i];
        size *= shape[i];
    }
    if (t.data == nullptr && size > 0) {
        why = "a tensor without memory";  // torch's zeros of forward-mode differentiation
        return false;
    }
    return true;
}

bool View::aligned() const {
    return reinterpret_cast<std::uintptr_t>(data) % static_cast<std::uintptr_t>(item_size) == 0;
}

bool View::dense() const {
    if (size <= 1) return true;
    std::int64_t expected = 1;
    int i = ndim - 1;
    for (; i >= 0; --i) {
        if (shape[i] == 1) continue;
        if (strides[i] != expected) break;
        expected *= shape[i];
    }
    if (i < 0) return true;  // C order, by far the most frequent
    int order[kMaxDims];     // the axes by stride, sorted by insertion: there are few
    int n = 0;
    for (int k = 0; k < ndim; ++k) {
        if (shape[k] == 1) continue;
        int at = n++;
        for (; at > 0 && strides[order[at - 1]] > strides[k]; --at) order[at] = order[at - 1];
        order[at] = k;
    }
    expected = 1;
    for (int k = 0; k < n; ++k) {
        if (strides[order[k]] != expected) return false;
        expected *= shape[order[k]];
    }
    return true;
}

bool View::same_shape(const View& other) const {
    return ndim == other.ndim && std::equal(shape, shape + ndim, other.shape);
}

bool View::same_layout(const View& other) const {
    if (size <= 1) return true;
    for (int i = 0; i < ndim; ++i)
        if (shape[i] != 1 && strides[i] != other.strides[i]) return false;
    return true;
}

bool View::fits(PyObject* object, bool written, void*& at) const {
    const Exchange* exchange = exchange_of(object);
    if (exchange == nullptr) {
        View now;
        std::string why;
        // A subclass may mean more than its numbers: a masked array has a mask.
        static PyObject* const ndarray = PyObject_GetAttrString(PyImport_ImportModule("numpy"), "ndarray");
        if (!written && reinterpret_cast<PyObject*>(Py_TYPE(object)) != ndarray) return false;
        if (!open_buffer(now, object, why) || (written && now.read_only)) return false;
        at = now.data;
        return now.element == element && now.same_shape(*this) && now.same_layout(*this) && now.aligned();
    }
    DLTensor t;
    if (exchange->tensor_from_object(object, &t) != 0) {
        PyErr_Clear();
        return false;
    }
    at = static_cast<char*>(t.data) + t.byte_offset;
    if (t.device.type != kCpu || t.ndim != ndim || element_of(t.dtype) != element) return false;
    if (t.data == nullptr && size > 0) return false;
    for (int i = 0; i < ndim; ++i)
        if (t.shape[i] != shape[i] || (t.strides[i] != strides[i] && shape[i] != 1 && size > 1)) return false;
    return reinterpret_cast<std::uintptr_t>(at) % static_cast<std::uintptr_t>(item_size) == 0;
}

std::string View::shape_text() const { return tuple_text(shape, ndim); }
std::string View::layout_text() const { return "strides " + tuple_text(strides, ndim) + " in elements"; }

void register_tensor_type(PyObject* type, PyObject* exchange) {
    const auto* api = static_cast<const Exchange*>(PyCapsule_GetPointer(exchange, "dlpack_exchange_api"));
    if (api == nullptr) return;  // the Python error is set
    if (api->header.major != 1 || api->tensor_from_object == nullptr) {
        PyErr_Format(PyExc_ImportError, "DLPack exchange API of major version %u, expected 1 with tensor_from_object",
                     api->header.major);
        return;
    }
    for (const TensorType& known : g_tensor_types)
        if (known.type == type) return;
    Py_INCREF(type);
    g_tensor_types.push_back({type, api});
}

}  // namespace border
