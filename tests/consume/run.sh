#!/usr/bin/env bash
# Builds and runs a project that uses convpool, in each way that there is: from an install that was moved, from the package that
# the wheel holds, and from the sources. Needs cmake and ninja on the path; `python` with convpool installed for the wheel's.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source_dir=$(cd ../.. && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

consume() {  # name, arguments for cmake
  local name=$1
  shift
  cmake -S project -B "$scratch/$name" -G Ninja -DCMAKE_BUILD_TYPE=Release "$@" > "$scratch/log" || { cat "$scratch/log"; return 1; }
  cmake --build "$scratch/$name" > "$scratch/log" || { cat "$scratch/log"; return 1; }
  echo "$name: $("$scratch/$name/consumer")"
}

cmake -S "$source_dir" -B "$scratch/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCONVPOOL_TESTS=OFF > /dev/null
cmake --build "$scratch/build" > /dev/null
cmake --install "$scratch/build" --prefix "$scratch/installed" > /dev/null
mv "$scratch/installed" "$scratch/moved"
if grep -rIl -e "$scratch" -e "$source_dir" "$scratch/moved"; then
  echo "these installed files hold a path of the build" >&2
  exit 1
fi
consume moved_install -DCMAKE_PREFIX_PATH="$scratch/moved"
consume sources -DCONVPOOL_SOURCE="$source_dir"
if python -c 'import convpool' 2> /dev/null; then
  consume wheel -Dconvpool_DIR="$(cd "$scratch" && python -m convpool --cmakedir)"
fi
