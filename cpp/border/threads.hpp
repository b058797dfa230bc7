// How many threads a step gets.
#pragma once
#include <cstddef>

namespace border {

/// The threads for a step over so many elements; `asked` 0: nobody asked.
int threads_for(std::ptrdiff_t elements, int asked);

void set_threads(int threads);
int threads();

}  // namespace border
