// Number formats narrower than the arithmetic: how one element, or one block of codes, is read and written.
//
// Plain integer and float operations that the compiler turns into vector code, for any target. Finite values stay
// finite: what rounding would carry to infinity becomes the largest finite number. NaN stays NaN.
//
// bfloat16  the upper half of a float32.
// float16   IEEE binary16, subnormals included.
// code8     for a quantity that is never negative and ranges widely, in blocks of kBlock. Code 0 is zero; code c in
//           1..255 is the float32 whose bits are (base + c) * 2**20: three bits of mantissa, so neighbors are 6 to 13 %
//           apart, and nearly 32 octaves. The base is that of the block's scale, the value of code 255 as a float32:
//           the least multiple of 2**20 that is not below the bits of the block's maximum. A value below the smallest
//           code takes that code, so nothing that is not zero becomes zero: a mean square rounded to zero would let the
//           next step explode. What is not finite takes the largest code: its parameter is NaN already, and the other
//           255 of its block go on.
//
// Statistics are rounded stochastically, each to one of its two neighbors with the expectation equal to the value.
// Rounded to nearest, an average that moves by less than half a spacing per step would never move at all.
#pragma once
#include <cstdint>
#include <cstring>

#include "step.hpp"

namespace rmsprop {
namespace RMSPROP_ISA_NAMESPACE {

using u16 = std::uint16_t;
using u32 = std::uint32_t;
using i32 = std::int32_t;

inline u32 bits_of(float x) {
    u32 b;
    std::memcpy(&b, &x, sizeof b);
    return b;
}

inline float float_of(u32 b) {
    float x;
    std::memcpy(&x, &b, sizeof x);
    return x;
}

/// 32 random bits that depend on the key and the element's index alone: a bijection of 32 bits with two multiplications
/// (constants of C. Wellons' search for low bias, https://nullprogram.com/blog/2018/07/31/).
inline u32 random_bits(u32 key, u32 index) {
    u32 x = index + key;
    x ^= x >> 16;
    x *= 0x21F0AAADu;
    x ^= x >> 15;
    x *= 0x735A2D97u;
    return x ^ (x >> 15);
}

/// The key of one block for one purpose (parameter, square, mean, buffer).
inline u32 block_key(std::uint64_t key, std::int64_t block, u32 purpose) {
    std::uint64_t x = key + 0x9E3779B97F4A7C15u * (static_cast<std::uint64_t>(block) * 4 + purpose + 1);
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return static_cast<u32>(x >> 32);
}

// ---- bfloat16 ------------------------------------------------------------------------------------------------------

/// Cut a float32 to its upper half after adding to the lower one. What would become infinite is the largest finite
/// value: nothing is added from there on, nor to infinity and to NaN, which stay what they are. NaN is quiet here, as
/// every operation leaves it; the signalling ones that its upper half would not show never come to be stored.
inline u16 bfloat16_bits(u32 bits, u32 rounded_up_by) {
    const u32 added = (bits & 0x7FFFFFFFu) < 0x7F7F0000u ? rounded_up_by : 0u;
    return static_cast<u16>((bits + added) >> 16);
}

inline float wide_bfloat16(u16 bits) { return float_of(static_cast<u32>(bits) << 16); }

inline u16 nearest_bfloat16(float x) {
    const u32 b = bits_of(x);
    return bfloat16_bits(b, 0x7FFFu + ((b >> 16) & 1u));
}

inline u16 stochastic_bfloat16(float x, u32 random) { return bfloat16_bits(bits_of(x), random >> 16); }

/// As above for a statistic that is never negative: what is not zero does not become zero.
inline u16 square_bfloat16(float x, u32 random) {
    const u32 b = bits_of(x);
    const u32 sum = b + (b < 0x7F7F0000u ? random >> 16 : 0u);
    const u32 least = sum > 0x10000u ? sum : 0x10000u;
    return static_cast<u16>((b != 0 ? least : 0u) >> 16);
}

/// Read a bfloat16 parameter together with the 16 bits it lost: the float32 it stands for, exactly.
inline float wide_compensated(u16 upper, u16 lost) {
    // The upper half was rounded to nearest, ties away from zero, so the lower half is a signed correction.
    const i32 correction = static_cast<std::int16_t>(lost);
    const u32 magnitude = upper & 0x7FFFu;
    // Somebody may have written the parameter since (a mask, a clamp, another checkpoint): no correction may carry
    // a zero below zero, which would be NaN, or an infinity back to a number.
    const bool fits = magnitude < 0x7F80u && (magnitude != 0 || correction >= 0);
    return float_of((static_cast<u32>(upper) << 16) + static_cast<u32>(fits ? correction : 0));
}

/// The bits that a bfloat16 and what it lost are cut from.
inline u32 compensated_bits(float x) {
    const u32 b = bits_of(x);
    const u32 magnitude = b & 0x7FFFFFFFu;
    // Beyond the largest bfloat16 half a spacing would carry to infinity: such a value is cut.
    const u32 finite = (magnitude > 0x7F7F7FFFu && magnitude < 0x7F800000u) ? (b & 0x80000000u) | 0x7F7F7FFFu : b;
    return (magnitude > 0x7F800000u) ? 0x7FC00000u : finite;
}

// ---- float16 -------------------------------------------------------------------------------------------------------

inline float wide_float16(u16 bits) {
    const u32 magnitude = (bits & 0x7FFFu) << 13;
    const float scaled = float_of(magnitude) * 0x1p112f;  // exact; makes subnormals normal
    const u32 b = (magnitude >= 0x0F800000u) ? magnitude | 0x7F800000u : bits_of(scaled);
    return float_of(b | ((bits & 0x8000u) << 16));
}

/// The smallest normal float16, as the bits of a float32. Below it a float16 is a whole number of 2**-24.
inline constexpr u32 kLeastNormal16 = 0x38800000u;

inline u32 lesser(u32 a, u32 b) { return a < b ? a : b; }
inline u32 greater(u32 a, u32 b) { return a > b ? a : b; }

inline u16 float16_bits(u32 bits, u32 rounded_up_by, float subnormal) {
    const u32 magnitude = bits & 0x7FFFFFFFu;
    const u32 normal = (magnitude + rounded_up_by - 0x38000000u) >> 13;
    const u32 small = static_cast<u32>(static_cast<i32>(subnormal));
    const u32 mask = 0u - static_cast<u32>(magnitude < kLeastNormal16);
    u32 h = lesser((small & mask) | (normal & ~mask), 0x7BFFu);  // finite stays finite
    h = magnitude == 0x7F800000u ? 0x7C00u : h;
    h = magnitude > 0x7F800000u ? 0x7E00u : h;
    return static_cast<u16>(h | ((bits >> 16) & 0x8000u));
}

inline u16 nearest_float16(float x) {
    const u32 b = bits_of(x);
    const u32 magnitude = b & 0x7FFFFFFFu;
    // Adding and subtracting 2**23 rounds to a whole number, ties to even.
    const float whole = (float_of(lesser(magnitude, kLeastNormal16)) * 0x1p24f + 0x1p23f) - 0x1p23f;
    return float16_bits(b, 0xFFFu + ((magnitude >> 13) & 1u), whole);
}

inline u16 stochastic_float16(float x, u32 random) {
    const u32 b = bits_of(x);
    const u32 magnitude = b & 0x7FFFFFFFu;
    const float uniform = static_cast<float>(static_cast<i32>(random >> 19)) * 0x1p-13f;  // [0, 1) in 13 bits
    const float whole = float_of(lesser(magnitude, kLeastNormal16)) * 0x1p24f + uniform;  // truncated by the cast
    return float16_bits(b, random & 0x1FFFu, whole);
}

// ---- code8 ---------------------------------------------------------------------------------------------------------

/// The bits that a code does not keep, of which its random bits are made.
inline constexpr u32 kCodeBits = 20;

/// The base of a block whose scale, or whose largest finite value, has these bits.
inline u32 base8(u32 largest_bits) {
    const u32 top = (largest_bits >> kCodeBits) + ((largest_bits & ((1u << kCodeBits) - 1)) != 0 ? 1u : 0u);
    return lesser(greater(top, 255u), 0x7F7u) - 255u;
}

/// The value of the largest code.
inline float scale8(u32 base) { return float_of((base + 255u) << kCodeBits); }

inline float decode8(u32 code, u32 base) { return code == 0 ? 0.0f : float_of((base + code) << kCodeBits); }

/// Add random bits below those that are kept. The parameter's rounding may use the same number: it takes the upper 16
/// bits, this one the lower 20, so the four that both take are the parameter's last.
inline u32 encode8(float x, u32 base, u32 random) {
    const u32 bits = bits_of(x);
    const u32 most = lesser(bits, (base + 255u) << kCodeBits);  // infinity and NaN, whatever its sign, are above
    const u32 sum = greater(most + (random & ((1u << kCodeBits) - 1)), (base + 1u) << kCodeBits);
    return bits == 0 ? 0u : (sum >> kCodeBits) - base;
}

// ---- formats for one loop ------------------------------------------------------------------------------------------
// Conversion and arithmetic in the same loop: the conversions then run in the shadow of the root and the division,
// which keep another unit of the processor busy. `wide` reads what has lost nothing, `load` a parameter with what it
// lost. kApart: conversions so long that loops of their own, over a block in the fastest cache, take less time.

template <class T>
struct Direct {
    using Stored = T;
    static constexpr bool kRandom = false, kCompensated = false, kApart = false;
    static T wide(T x) { return x; }
    static T load(T x, u16) { return x; }
    static T store(T x, u32, u16&) { return x; }
};

struct NearestBFloat16 {
    using Stored = u16;
    static constexpr bool kRandom = false, kCompensated = false, kApart = false;
    static float wide(u16 bits) { return wide_bfloat16(bits); }
    static float load(u16 bits, u16) { return wide_bfloat16(bits); }
    static u16 store(float x, u32, u16&) { return nearest_bfloat16(x); }
};

struct StochasticBFloat16 : NearestBFloat16 {
    static constexpr bool kRandom = true;
    static u16 store(float x, u32 random, u16&) { return stochastic_bfloat16(x, random); }
};

struct SquareBFloat16 : NearestBFloat16 {
    static constexpr bool kRandom = true;
    static u16 store(float x, u32 random, u16&) { return square_bfloat16(x, random); }
};

struct CompensatedBFloat16 : NearestBFloat16 {
    static constexpr bool kCompensated = true;
    static float load(u16 bits, u16 lost) { return wide_compensated(bits, lost); }
    static u16 store(float x, u32, u16& lost) {
        const u32 b = compensated_bits(x);
        lost = static_cast<u16>(b & 0xFFFFu);
        return static_cast<u16>((b + 0x8000u) >> 16);
    }
};

struct NearestFloat16 {
    using Stored = u16;
    static constexpr bool kRandom = false, kCompensated = false, kApart = true;
    static float wide(u16 bits) { return wide_float16(bits); }
    static float load(u16 bits, u16) { return wide_float16(bits); }
    static u16 store(float x, u32, u16&) { return nearest_float16(x); }
};

struct StochasticFloat16 : NearestFloat16 {
    static constexpr bool kRandom = true;
    static u16 store(float x, u32 random, u16&) { return stochastic_float16(x, random); }
};

/// Codes are read and written by blocks: decode8, encode8.
struct Code8 {
    using Stored = std::uint8_t;
};

/// How the statistics are kept: `Square` the mean square or variance, `Signed` the mean and the momentum buffer.
template <class T>
struct WideState {
    using Square = Direct<T>;
    using Signed = Direct<T>;
};

struct BFloat16State {
    using Square = SquareBFloat16;
    using Signed = StochasticBFloat16;
};

struct Code8State {
    using Square = Code8;
    using Signed = StochasticBFloat16;
};

}  // namespace RMSPROP_ISA_NAMESPACE
}  // namespace rmsprop
