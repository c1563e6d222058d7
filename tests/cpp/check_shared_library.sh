#!/usr/bin/env bash
# check_shared_library.sh LIBRARY [--update]: the shared library exports what cpp/exported_symbols.txt lists, nothing else, and
# needs the system's libraries alone. The list holds the names as the linker sees them (GCC and Clang on Linux, libstdc++):
# a name that goes or changes breaks programs that were linked before; --update rewrites the list.
set -euo pipefail
export LC_ALL=C
library=$1
list=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/cpp/exported_symbols.txt

exported=$(nm -D --defined-only --format=posix "$library" | cut -d ' ' -f 1 | sort -u)
if [[ ${2:-} == --update ]]; then
  echo "$exported" > "$list"
fi
if ! diff -u --label "$list" <(grep -v '^#' "$list") --label "$library" <(echo "$exported"); then
  echo "the exported symbols are not those of the list; where that is meant: $0 $library --update, and a word in CHANGELOG.md" >&2
  exit 1
fi

# Debian's libc holds pthread and dl; elsewhere they are libraries of their own.
allowed='^(libc|libm|libpthread|libdl|libstdc\+\+|libgcc_s|ld-linux[a-z0-9_-]*)\.so(\.[0-9.]+)?$'
needed=$(readelf -d "$library" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
if others=$(grep -vE "$allowed" <<< "$needed"); then
  echo "$library needs more than the C and C++ libraries: $others" >&2
  exit 1
fi
soname=$(readelf -d "$library" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')
version=$(sed -n 's/^#define CONVPOOL_VERSION "\([0-9]*\.[0-9]*\).*/\1/p' "$(dirname "$list")/include/convpool/version.hpp")
if [[ $soname != "libconvpool.so.$version" ]]; then
  echo "$library has the soname $soname, expected libconvpool.so.$version" >&2
  exit 1
fi
echo "$soname: $(wc -l <<< "$exported") symbols, needs $(tr '\n' ' ' <<< "$needed")"
