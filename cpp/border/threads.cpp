#include "threads.hpp"

#include <algorithm>
#include <string>

#include "refusal.hpp"

#if defined(_OPENMP)
#include <omp.h>
#endif
#if !defined(_WIN32)  // which has no fork()
#include <pthread.h>
#endif

namespace border {
namespace {

/// Elements from which a second thread pays for its wake-up.
constexpr std::ptrdiff_t kParallelFrom = 1 << 16;
/// The same where nobody asked for threads. OpenMP's idle threads spin for milliseconds, and a BLAS that has threads of
/// its own (NumPy's) waits for them at every call; only in a long step is a second thread worth that.
constexpr std::ptrdiff_t kParallelFromUnasked = 1 << 22;

/// More threads than machines have cores; OpenMP ends the process when the system refuses it a thread.
constexpr int kMostThreads = 1024;

int g_threads = 0;
bool g_forked = false;

int most_threads() {
#if defined(_OPENMP)
    return omp_get_max_threads();
#else
    return 1;
#endif
}

}  // namespace

int threads_for(std::ptrdiff_t elements, int asked) {
    // A child of fork() inherits an OpenMP runtime whose threads are gone; using it would hang.
    if (g_forked || elements < kParallelFrom) return 1;
    if (asked > 0) return std::min(asked, kMostThreads);
    return g_threads > 0 || elements >= kParallelFromUnasked ? threads() : 1;
}

void set_threads(int threads) {
    if (threads < 0 || threads > kMostThreads)
        refuse("InputError", "threads: " + std::to_string(threads) + ", expected 0 (all) to 1024");
#if !defined(_WIN32)
    static const int registered = pthread_atfork(nullptr, nullptr, [] { g_forked = true; });
    (void)registered;
#endif
    g_threads = threads;
}

int threads() { return g_threads > 0 ? g_threads : most_threads(); }

}  // namespace border
