#!/usr/bin/env bash
# Build the compiled module under sanitizers and run the tests of the kernel and the border under them: first address and
# undefined behavior, then threads.
#     bench/sanitize.sh PYTHON [pytest arguments]
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(realpath -s "$1")
shift
export PYTHONMALLOC=malloc
# Python frees little at exit, so leaks are not looked for; unlike them, an overflow or an invalid access ends the run.
export ASAN_OPTIONS=detect_leaks=0:halt_on_error=1:abort_on_error=0 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export TSAN_OPTIONS=halt_on_error=1:report_signal_unsafe=0

# build NAME SANITIZERS: a copy of the package with that module in build/NAME/site; sets `build`, `site` and `compiler`.
build() {
    build=build/$1
    site=$PWD/$build/site
    mkdir -p build
    PATH="$(dirname "$python"):$PATH" cmake -S . -B "$build" -G Ninja "-DRMSPROP_SANITIZE=$2" -DCMAKE_BUILD_TYPE=Release \
        -DPython_EXECUTABLE="$python" -Dnanobind_DIR="$("$python" -m nanobind --cmake_dir)" >"$build.log" 2>&1 ||
        { cat "$build.log"; exit 1; }
    PATH="$(dirname "$python"):$PATH" cmake --build "$build" --target _core
    rm -rf "$site"
    mkdir -p "$site"
    cp -r src/rmsprop "$site/"
    cp "$build"/_core*.so "$site/rmsprop/"
    # The hook of an editable install would send imports elsewhere.
    cat >"$site/sitecustomize.py" <<'PYTHON'
import sys

sys.meta_path[:] = [finder for finder in sys.meta_path if not type(finder).__module__.startswith("_editable")]
PYTHON
    compiler=$(sed -n 's/^CMAKE_CXX_COMPILER:[A-Z]*=//p' "$build/CMakeCache.txt")
}

# check LIBRARIES TESTS...: run tests with the module of the last `build`.
check() {
    local used libraries=$1
    shift
    used=$(LD_PRELOAD=$libraries PYTHONPATH=$site "$python" -c 'import rmsprop._core as core; print(core.__file__)')
    [[ $used == "$site"/* ]] || { echo "the tests would run with $used" >&2; exit 1; }
    echo "sanitized: $used"
    LD_PRELOAD=$libraries PYTHONPATH=$site "$python" -m pytest -q -p no:cacheprovider "$@"
}

build sanitize address,undefined
check "$("$compiler" -print-file-name=libasan.so):$("$compiler" -print-file-name=libubsan.so)" \
    tests/test_same_bits.py tests/test_border.py tests/test_numpy.py tests/test_numpy_bad_input.py \
    tests/test_storage_16bit.py tests/test_storage_8bit.py "$@"

build sanitize-threads thread
"$compiler" -shared -fPIC -O2 -fsanitize=thread -o "$build/libopenmp.so" bench/openmp_by_threads.cpp
# The tests that count OpenMP's own threads, fork beside them or change the floating point mode are left out.
check "$("$compiler" -print-file-name=libtsan.so):$PWD/$build/libopenmp.so" tests/test_same_bits.py tests/test_threads.py \
    -k "grouping or clipped or norm or another_thread" "$@"
