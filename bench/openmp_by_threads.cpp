// OpenMP's parallel region by std::thread, which the thread sanitizer sees; GCC's libgomp waits by system calls of its
// own, and every result of a thread would be reported as a race. Preloaded by sanitize.sh.
#include <thread>
#include <vector>

static thread_local int number = 0;
static thread_local int count = 1;

extern "C" {
int omp_get_thread_num() { return number; }
int omp_get_num_threads() { return count; }
int omp_get_max_threads() { return 4; }

void GOMP_parallel(void (*body)(void*), void* data, unsigned threads, unsigned) {
    std::vector<std::thread> others;
    for (unsigned i = 1; i < threads; ++i)
        others.emplace_back([=] {
            number = static_cast<int>(i);
            count = static_cast<int>(threads);
            body(data);
        });
    count = static_cast<int>(threads);
    body(data);
    count = 1;
    for (std::thread& other : others) other.join();
}
}
