// What each instruction set provides: the same three loops over a range of one tensor.
#pragma once
#include "step.hpp"

namespace rmsprop {

/// Ranges begin at a multiple of kBlock and end at one or at the tensor's end.
struct Functions {
    void (*step)(const Tensor&, std::ptrdiff_t begin, std::ptrdiff_t end, const Numbers&);
    double (*squares)(const Tensor&, std::ptrdiff_t begin, std::ptrdiff_t end);
    void (*move)(const Tensor&, std::ptrdiff_t begin, std::ptrdiff_t end);
};

namespace baseline {
extern const Functions functions;
}
namespace avx2 {
extern const Functions functions;
}
namespace avx512 {
extern const Functions functions;
}

}  // namespace rmsprop
