#!/usr/bin/env bash
# Build the compiled module with the address and undefined-behaviour sanitizers and run the kernel's tests under them.
#     bench/sanitize.sh PYTHON [pytest arguments]
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(realpath -s "$1")
shift
build=build/sanitize
site=$PWD/$build/site

PATH="$(dirname "$python"):$PATH" cmake -S . -B "$build" -G Ninja -DRMSPROP_SANITIZE=ON -DCMAKE_BUILD_TYPE=Release \
    -DPython_EXECUTABLE="$python" -Dnanobind_DIR="$("$python" -m nanobind --cmake_dir)" >"$build.log" 2>&1 ||
    { cat "$build.log"; exit 1; }
PATH="$(dirname "$python"):$PATH" cmake --build "$build" --target _core

# A copy of the package with that module; the hook of an editable install would send imports elsewhere.
rm -rf "$site"
mkdir -p "$site"
cp -r src/rmsprop "$site/"
cp "$build"/_core*.so "$site/rmsprop/"
cat >"$site/sitecustomize.py" <<'PYTHON'
import sys

sys.meta_path[:] = [finder for finder in sys.meta_path if not type(finder).__module__.startswith("_editable")]
PYTHON

compiler=$(sed -n 's/^CMAKE_CXX_COMPILER:[A-Z]*=//p' "$build/CMakeCache.txt")
export LD_PRELOAD="$("$compiler" -print-file-name=libasan.so):$("$compiler" -print-file-name=libubsan.so)"
export PYTHONPATH="$site" PYTHONMALLOC=malloc
# Python frees little at exit, so leaks are not looked for; unlike them, an overflow or an invalid access ends the run.
export ASAN_OPTIONS=detect_leaks=0:halt_on_error=1:abort_on_error=0 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1

used=$("$python" -c 'import rmsprop._core as core; print(core.__file__)')
[[ $used == "$site"/* ]] || { echo "the tests would run with $used" >&2; exit 1; }
echo "sanitized: $used"
"$python" -m pytest -p no:cacheprovider tests/test_same_bits.py tests/test_border.py "$@"
