// The step on a GPU: a grid over the chunks of all tensors, around the formula of element.hpp.
//
// NVRTC compiles this file on the user's machine, for each combination of formats and switches that a run needs; a C++
// compiler compiles the same bodies for a host, where blocks and threads are loops. Every element is computed from its
// own numbers alone, so both give the bits of the CPU's loops (span.cpp). Compile without contraction.
//
// A warp steps a block of kBlock elements, 8 for each thread. A thread reads the widest array in groups of 16 bytes,
// and neighbors read neighboring groups.
#pragma once
#define RMSPROP_ISA_NAMESPACE grid
#include <cstdint>
#include <cstring>

#include "../kernel/element.hpp"
#include "../kernel/narrow.hpp"
#include "../kernel/storage.hpp"
#include "launch.hpp"

#if defined(__CUDACC__)
#define RMSPROP_SHARED __shared__
#define RMSPROP_THREADS(t) if (const u32 t = threadIdx.x; true)
#define RMSPROP_BARRIER __syncthreads()
#else
#define RMSPROP_SHARED
#define RMSPROP_THREADS(t) for (u32 t = 0; t < kThreads; ++t)
#define RMSPROP_BARRIER
#endif

namespace rmsprop {
namespace grid {

inline constexpr u32 kThreads = 256, kWarp = 32, kWarps = kThreads / kWarp, kPerThread = kBlock / kWarp;

/// What the threads of a chunk share; the first of them makes it.
template <class T>
struct Chunk {
    Tensor tensor;
    Rounded<T> numbers;
    std::ptrdiff_t begin, end;  // of its elements
    bool vectors;               // whether all arrays begin at multiples of 16 bytes
};

inline const Row& find_row(const Row* rows, const u32* row_of_chunk, u32 chunk, const Launch& launch, u32& place) {
    const u32 row = row_of_chunk[chunk];
    place = row - launch.first_row;
    return rows[row];
}

/// The factor of the gradients: unscaling, and clipping to max_norm as the CPU does it.
inline double find_scale(const Launch& launch) {
    const double scale = launch.scale / launch.grad_scale.read();
    if (launch.max_norm == 0) return scale;
    const double norm = *launch.norm, factor = launch.max_norm / (norm + launch.norm_eps);
    return factor < 1 ? scale * factor : norm != norm ? norm : scale;
}

template <class T>
inline Chunk<T> open_chunk(const Row& row, u32 place, u32 chunk, const Launch& launch) {
    Tensor t = row.tensor;
    t.grad = launch.grad[place];
    launch.rule.set_moment(t, launch.step[place], launch.fresh[place], launch.seed, row.place);
    const std::ptrdiff_t begin = static_cast<std::ptrdiff_t>(chunk - row.first_chunk) * kChunk;
    const auto bits = reinterpret_cast<std::uintptr_t>(t.param) | reinterpret_cast<std::uintptr_t>(t.grad) |
                      reinterpret_cast<std::uintptr_t>(t.square) | reinterpret_cast<std::uintptr_t>(t.mean) |
                      reinterpret_cast<std::uintptr_t>(t.buffer) | reinterpret_cast<std::uintptr_t>(t.lost);
    return {t, Rounded<T>(launch.rule.numbers(launch.lr.read(), launch.lr_max.read(), find_scale(launch)), t), begin,
            begin + kChunk < t.size ? begin + kChunk : t.size, bits % 16 == 0};
}

/// As many bytes as one instruction moves.
#if defined(__CUDACC__)
template <u32 Bytes>
struct Words;
template <>
struct Words<4> {
    using Type = unsigned;
};
template <>
struct Words<8> {
    using Type = uint2;
};
template <>
struct Words<16> {
    using Type = uint4;
};
#else
template <u32 Bytes>
struct Words {
    struct alignas(Bytes) Type {
        unsigned char bytes[Bytes];
    };
};
#endif

/// Store at once; plain stores would be merged with those of the single elements.
template <class Type>
inline void put(Type* to, Type words) {
#if defined(__CUDACC__)
    __stcg(to, words);
#else
    *to = words;
#endif
}

/// The bytes of the widest array's elements: a thread reads 16 bytes of it at once.
template <class Param, class State>
inline constexpr u32 kWidest = sizeof(typename Param::Stored) > sizeof(typename State::Signed::Stored)
                                   ? sizeof(typename Param::Stored)
                                   : sizeof(typename State::Signed::Stored);

/// The elements of a block that one thread steps: groups of N, kWarp groups apart.
template <u32 N>
struct Share {
    template <class Stored>
    using Group = typename Words<N * sizeof(Stored)>::Type;

    std::ptrdiff_t first;  // of the block
    std::ptrdiff_t end;
    u32 lane;
    bool vectors;

    u32 place(u32 i) const { return (i / N * kWarp + lane) * N + i % N; }
    bool has(u32 i) const { return first + place(i) < end; }

    template <class Stored>
    void load(const void* base, Stored (&to)[kPerThread]) const {
        const Stored* from = static_cast<const Stored*>(base) + first;
        for (u32 k = 0; k < kPerThread; k += N) {
            if (vectors && has(k + N - 1)) {
                const auto words = *reinterpret_cast<const Group<Stored>*>(from + place(k));
                std::memcpy(to + k, &words, sizeof words);
            } else {
                for (u32 j = 0; j < N; ++j) to[k + j] = has(k + j) ? from[place(k + j)] : Stored(0);
            }
        }
    }

    template <class Stored>
    void store(void* base, const Stored (&from)[kPerThread]) const {
        Stored* to = static_cast<Stored*>(base) + first;
        for (u32 k = 0; k < kPerThread; k += N) {
            if (vectors && has(k + N - 1)) {
                Group<Stored> words;
                std::memcpy(&words, from + k, sizeof words);
                put(reinterpret_cast<Group<Stored>*>(to + place(k)), words);
            } else {
                for (u32 j = 0; j < N; ++j)
                    if (has(k + j)) to[place(k + j)] = from[k + j];
            }
        }
    }
};

/// Step the elements of one thread in the block at `first`.
template <class T, bool Centered, bool Buffered, class Param, class State>
inline void step_share(const Chunk<T>& chunk, std::ptrdiff_t first, u32 lane) {
    using Value = typename Param::Stored;
    using Square = typename State::Square::Stored;
    using Signed = typename State::Signed::Stored;
    const Tensor& t = chunk.tensor;
    const Share<16 / kWidest<Param, State>> share{first, chunk.end, lane, chunk.vectors};
    const Keys keys(t.key, first / kBlock);
    Value param[kPerThread], grad[kPerThread];
    Square square[kPerThread];
    Signed mean[kPerThread], buffer[kPerThread];
    u16 lost[kPerThread] = {};
    share.load(t.param, param);
    share.load(t.grad, grad);
    share.load(t.square, square);
    if constexpr (Centered) share.load(t.mean, mean);
    if constexpr (Buffered) share.load(t.buffer, buffer);
    if constexpr (Param::kCompensated) share.load(t.lost, lost);
    for (u32 i = 0; i < kPerThread; ++i) {
        Element<T> e{};
        e.param = Param::load(param[i], lost[i]);
        e.square = State::Square::load(square[i], 0);
        if constexpr (Centered) e.mean = State::Signed::load(mean[i], 0);
        if constexpr (Buffered) e.buffer = State::Signed::load(buffer[i], 0);
        step_element<T, Centered, Buffered, false>(e, Param::wide(grad[i]), chunk.numbers);
        const u32 at = share.place(i);
        u16 none = 0;
        square[i] = narrow<typename State::Square>(e.square, keys.square, at, none);
        if constexpr (Centered) mean[i] = narrow<typename State::Signed>(e.mean, keys.mean, at, none);
        if constexpr (Buffered) buffer[i] = narrow<typename State::Signed>(e.buffer, keys.buffer, at, none);
        param[i] = narrow<Param>(e.param, keys.param, at, lost[i]);
    }
    share.store(t.square, square);
    if constexpr (Centered) share.store(t.mean, mean);
    if constexpr (Buffered) share.store(t.buffer, buffer);
    if constexpr (Param::kCompensated) share.store(t.lost, lost);
    share.store(t.param, param);
}

/// One block of the grid: step a chunk of one tensor.
template <class T, bool Centered, bool Buffered, class Param, class State>
inline void step_chunk(const Row* rows, const u32* row_of_chunk, const Launch& launch, u32 block) {
    u32 place;
    const u32 index = launch.first_chunk + block;
    const Row& row = find_row(rows, row_of_chunk, index, launch, place);
    if (launch.found_inf.read() != 0) return;
    RMSPROP_SHARED alignas(16) unsigned char memory[sizeof(Chunk<T>)];  // bytes: shared memory has no constructors
    RMSPROP_THREADS(t) {
        if (t == 0) {
            const Chunk<T> chunk = open_chunk<T>(row, place, index, launch);
            std::memcpy(memory, &chunk, sizeof chunk);
        }
    }
    RMSPROP_BARRIER;
    const Chunk<T>& chunk = *reinterpret_cast<const Chunk<T>*>(memory);
    for (std::ptrdiff_t first = chunk.begin; first < chunk.end; first += kWarps * kBlock) {
        RMSPROP_THREADS(t) {
            const std::ptrdiff_t mine = first + t / kWarp * kBlock;
            if (mine < chunk.end) step_share<T, Centered, Buffered, Param, State>(chunk, mine, t % kWarp);
        }
    }
}

/// Add the sums of all threads pairwise; the first has the total.
inline void add_sums(double* sums) {
    for (u32 half = kThreads / 2; half > 0; half /= 2) {
        RMSPROP_BARRIER;
        RMSPROP_THREADS(t) {
            if (t < half) sums[t] += sums[t + half];
        }
    }
    RMSPROP_BARRIER;
}

/// Count a block of the grid as done and return whether it was the last.
inline bool count_block(u32* done, u32 blocks) {
#if defined(__CUDACC__)
    __threadfence();
    const u32 before = atomicAdd(done, 1u);
#else
    const u32 before = (*done)++;
#endif
    return before + 1 == blocks;
}

/// One block of the grid: add the squares of a chunk's gradients; the last one adds the chunks', in their order.
///
/// `launch.norm`: the norm, a counter that is 0 before and after, and a partial sum for each chunk of the table.
template <class Param>
inline void norm_chunk(const Row* rows, const u32* row_of_chunk, const Launch& launch, u32 block) {
    RMSPROP_SHARED double sums[kThreads];
    RMSPROP_SHARED bool last;
    u32 place;
    const u32 index = launch.first_chunk + block;
    const Row& row = find_row(rows, row_of_chunk, index, launch, place);
    const auto* grad = static_cast<const typename Param::Stored*>(launch.grad[place]);
    u32* done = reinterpret_cast<u32*>(launch.norm + 1);
    double* partials = launch.norm + 2;
    const std::ptrdiff_t begin = static_cast<std::ptrdiff_t>(index - row.first_chunk) * kChunk;
    const std::ptrdiff_t end = begin + kChunk < row.tensor.size ? begin + kChunk : row.tensor.size;
    RMSPROP_THREADS(t) {
        double sum = 0;
        for (std::ptrdiff_t i = begin + t; i < end; i += kThreads) {
            const double g = Param::wide(grad[i]);
            sum += g * g;
        }
        sums[t] = sum;
    }
    add_sums(sums);
    RMSPROP_THREADS(t) {
        if (t == 0) {
            partials[index] = sums[0];
            last = count_block(done, launch.chunks);
        }
    }
    RMSPROP_BARRIER;
    if (!last) return;
    RMSPROP_THREADS(t) {
        double sum = 0;
        for (u32 i = t; i < launch.chunks; i += kThreads) sum += static_cast<const volatile double*>(partials)[i];
        sums[t] = sum;
    }
    add_sums(sums);
    RMSPROP_THREADS(t) {
        if (t == 0) {
            *done = 0;
            *launch.norm = root_of(sums[0]) * magnitude_of(launch.scale / launch.grad_scale.read());
        }
    }
}

}  // namespace grid
}  // namespace rmsprop

// The variant, from the macros that cuda.py defines.
#if defined(RMSPROP_PARAM)
#define RMSPROP_VARIANT \
    RMSPROP_TYPE, RMSPROP_CENTERED, RMSPROP_BUFFERED, rmsprop::grid::RMSPROP_PARAM, rmsprop::grid::RMSPROP_STATE
#endif
#if defined(__CUDACC__)
extern "C" __global__ void __launch_bounds__(256) rmsprop_step(const rmsprop::Row* rows, const unsigned* row_of_chunk,
                                                               const __grid_constant__ rmsprop::Launch launch) {
    rmsprop::grid::step_chunk<RMSPROP_VARIANT>(rows, row_of_chunk, launch, blockIdx.x);
}
extern "C" __global__ void __launch_bounds__(256) rmsprop_norm(const rmsprop::Row* rows, const unsigned* row_of_chunk,
                                                               const __grid_constant__ rmsprop::Launch launch) {
    rmsprop::grid::norm_chunk<rmsprop::grid::RMSPROP_PARAM>(rows, row_of_chunk, launch, blockIdx.x);
}
#elif defined(RMSPROP_PARAM)
extern "C" void rmsprop_step(const rmsprop::Row* rows, const unsigned* row_of_chunk, const rmsprop::Launch& launch,
                             unsigned blocks) {
    for (unsigned b = 0; b < blocks; ++b) rmsprop::grid::step_chunk<RMSPROP_VARIANT>(rows, row_of_chunk, launch, b);
}
extern "C" void rmsprop_norm(const rmsprop::Row* rows, const unsigned* row_of_chunk, const rmsprop::Launch& launch,
                             unsigned blocks) {
    for (unsigned b = 0; b < blocks; ++b)
        rmsprop::grid::norm_chunk<rmsprop::grid::RMSPROP_PARAM>(rows, row_of_chunk, launch, b);
}
#endif
