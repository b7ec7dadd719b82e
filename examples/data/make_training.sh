#!/usr/bin/env bash
# Makes the clips of training/: make_training.sh OUT_FOLDER. Needs opencv-doc, ffmpeg, PyTorch and NumPy.
set -euo pipefail
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 # the bits of a product depend on it
out=$(realpath -m "${1:?OUT_FOLDER}")
python=${PYTHON:-python3}
cd "$(dirname "${BASH_SOURCE[0]}")/../minidit"
latents=$(mktemp -d)
trap 'rm -r "$latents"' EXIT

# capture <clip> <noise level>...: layers 1 and 2, the middle of each frame
capture() {
  local clip=$1
  shift
  "$python" -B capture.py "$out" --weights minidit.safetensors --latents "$latents/$clip.npy" --noise "$@" \
    --layers 1 2 --grid 6x6
}

"$python" -B latents.py --weights minidit.safetensors --training "$latents" vtest cup megamind
capture vtest 0.3 0.7
capture cup 0.5
capture megamind 0.8
