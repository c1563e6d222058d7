#!/usr/bin/env bash
# run_all.sh DIRECTORY: runs the examples that were built there; pictures go to the working directory.
set -euo pipefail
built=$1
suffix=ppm
if "$built/image_filter" test picture.png 2> /dev/null; then suffix=png; else "$built/image_filter" test picture.ppm; fi
for filter in blur sharpen emboss edges; do
  "$built/image_filter" "$filter" "picture.$suffix" "$filter.$suffix"
done
"$built/lenet"
"$built/thread_pool"
