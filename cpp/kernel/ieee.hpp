// The floating-point mode that the promises rest on, whatever another library left in this thread's state.
#pragma once
#include <cstdint>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace rmsprop {
namespace {  // a copy for each file: the instruction sets must not share code

/// Round to nearest and keep subnormals while in scope.
class Ieee {
public:
#if defined(__SSE2__)
    Ieee() : before_(_mm_getcsr()) { _mm_setcsr(0x1F80); }
    ~Ieee() { _mm_setcsr(before_); }

private:
    unsigned before_;
#elif defined(__aarch64__)
    Ieee() {
        asm volatile("mrs %0, fpcr" : "=r"(before_));
        asm volatile("msr fpcr, %0" ::"r"(std::uint64_t{0}));
    }
    ~Ieee() { asm volatile("msr fpcr, %0" ::"r"(before_)); }

private:
    std::uint64_t before_;
#else
    Ieee() {}
    ~Ieee() {}
#endif
public:
    Ieee(const Ieee&) = delete;
    Ieee& operator=(const Ieee&) = delete;
};

}  // namespace
}  // namespace rmsprop
