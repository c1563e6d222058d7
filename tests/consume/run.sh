#!/usr/bin/env bash
# Builds and runs projects that use convpool, in each way that there is: from an install that was moved, by CMake and by
# pkg-config, in C++ and in C; from the package that the wheel holds; and from the sources. Looks at what was installed, too.
# Needs cmake and ninja on the path, pkg-config, and `python` with convpool installed for the wheel's.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source_dir=$(cd ../.. && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
baseline=sse2
[[ $(uname -m) == x86_64 ]] || baseline=neon

quietly() { "$@" > "$scratch/log" 2>&1 || { cat "$scratch/log"; return 1; }; }

build() {  # project, name, arguments for cmake
  local project=$1 name=$2
  shift 2
  quietly cmake -S "$project" -B "$scratch/$name" -G Ninja -DCMAKE_BUILD_TYPE=Release "$@"
  quietly cmake --build "$scratch/$name"
}

consume() {  # name, arguments for cmake
  build project "$@"
  "$scratch/$1/consumer_without_exceptions"
  echo "$1: $("$scratch/$1/consumer")"
}

no_path_of_the_build() {  # directory, paths
  local directory=$1 found
  shift
  # What Python compiles names its source where that is installed: below the clone, in an environment there.
  if found=$(grep -rlFa --exclude-dir=__pycache__ "${@/#/-e}" "$directory"); then
    printf 'these installed files hold a path of the build:\n%s\n' "$found" >&2
    return 1
  fi
}

links_to() { ldd "$1" | grep libconvpool > /dev/null; }

# ---- an install that moved

build "$source_dir" build -DCONVPOOL_TESTS=OFF -DCONVPOOL_ISAS="$baseline"
quietly cmake --install "$scratch/build" --prefix "$scratch/installed"
mv "$scratch/installed" "$scratch/moved"
no_path_of_the_build "$scratch/moved" "$scratch" "$source_dir"
libdir=$(dirname "$(find "$scratch/moved" -name libconvpool.a)")
bash "$source_dir/tests/cpp/check_shared_library.sh" "$libdir/libconvpool.so"

consume moved_install_static -DCMAKE_PREFIX_PATH="$scratch/moved"
if links_to "$scratch/moved_install_static/consumer"; then echo "not static" >&2 && exit 1; fi
consume moved_install_shared -DCMAKE_PREFIX_PATH="$scratch/moved" -DBUILD_SHARED_LIBS=ON
links_to "$scratch/moved_install_shared/consumer"
build c99 moved_install_c99 -DCMAKE_PREFIX_PATH="$scratch/moved"
echo "moved_install_c99: $("$scratch/moved_install_c99/consumer")"

if command -v pkg-config > /dev/null; then
  mkdir "$scratch/makefile"
  PKG_CONFIG_PATH="$libdir/pkgconfig" quietly make -C makefile OUT="$scratch/makefile"
  for tool in c_shared c_static cxx_shared cxx_static; do echo "pkg-config $tool: $("$scratch/makefile/$tool")"; done
else
  echo "no pkg-config (Debian: pkg-config): the plain Makefile is left out"
fi

# ---- examples and the timing program

build "$source_dir/examples/cpp" examples -DCMAKE_PREFIX_PATH="$scratch/moved"
(cd "$scratch/examples" && bash "$source_dir/examples/cpp/run_all.sh" .)
build "$source_dir/benchmarks/cpp" benchmarks -DCMAKE_PREFIX_PATH="$scratch/moved"
"$scratch/benchmarks/timing" --seconds 0.05 n1c8h28w28k16r3s1p1 max:n1c8h28w28r2s2p0

# ---- the sources, below another project; with that, the options

consume add_subdirectory -DCONVPOOL_SOURCE="$source_dir" -DCONVPOOL_ISAS="$baseline"
consume fetch_content -DCONVPOOL_SOURCE="$source_dir" -DFETCH=ON -DCONVPOOL_ISAS="$baseline" -DBUILD_SHARED_LIBS=ON \
  -DCONVPOOL_THREADS=OFF
bash "$source_dir/tests/cpp/check_shared_library.sh" \
  "$(find "$scratch/fetch_content" -name libconvpool.so)"

# ---- the wheel, in the environment that python belongs to

if (cd "$scratch" && python -c 'import convpool') 2> /dev/null; then
  package=$(cd "$scratch" && python -c 'import convpool; print(convpool.__path__[0])')
  [[ $(cd "$scratch" && python -m convpool --include) == "$package/include" ]]
  no_path_of_the_build "$package" "$source_dir/"
  consume wheel -Dconvpool_DIR="$(cd "$scratch" && python -m convpool --cmakedir)"
  if python -c 'import scikit_build_core' 2> /dev/null; then
    cp -r python_build "$scratch/python_build"
    quietly python -m pip install --no-build-isolation --no-deps --no-index --target "$scratch/installed_by_pip" \
      --config-settings=build-dir="$scratch/python_build/build" "$scratch/python_build"
    echo "cmake.root: $("$(find "$scratch/python_build/build" -name consumer -type f)")"
  fi
else
  echo "no convpool in $(command -v python || echo 'no python'): the wheel is left out"
fi
