// What both loops, that of the CPU and that of the GPU, do to an element before they write it.
#pragma once
#include "storage.hpp"

namespace rmsprop {
namespace RMSPROP_ISA_NAMESPACE {

/// The keys of one block's random bits: each array draws its own.
struct Keys {
    u32 param, square, mean, buffer;
    Keys(std::uint64_t key, std::int64_t block)
        : param(block_key(key, block, 0)),
          square(block_key(key, block, 1)),
          mean(block_key(key, block, 2)),
          buffer(block_key(key, block, 3)) {}
};

template <class Format, class T>
inline typename Format::Stored narrow(T x, u32 key, u32 i, u16& lost) {
    if constexpr (Format::kRandom) return Format::store(x, random_bits(key, i), lost);
    else return Format::store(x, 0, lost);
}

}  // namespace RMSPROP_ISA_NAMESPACE
}  // namespace rmsprop
