#!/usr/bin/env bash
# demo.sh PROGRAM OUT_FOLDER: latents of held-out clips, the denoising errors, and a sampled video as an animation.
set -euo pipefail
if [ $# -ne 2 ]; then
  echo "usage: $0 PROGRAM OUT_FOLDER" >&2
  exit 2
fi
program=$1 out=$2 here=$(cd "$(dirname "$0")" && pwd)
threads=(--threads "$(nproc)")
base=$here/minidit.safetensors

"$here/latents.py" --weights "$base" "$out"
clips=(--latents "$out/vtest.npy" "$out/box.npy")
"$program" denoise --weights "$base" --attention softmax causal softmax,window,window,softmax window "${clips[@]}" "${threads[@]}" |
  tee "$out/denoise.txt"
for weights in "$here"/*.safetensors; do # fine-tuned ones: as their metadata say
  [ "$weights" = "$base" ] && continue
  "$program" denoise --weights "$weights" "${clips[@]}" "${threads[@]}" | tail -n +2 | tee -a "$out/denoise.txt"
done
# Three times as long as the clips of training, chunk by chunk, in constant memory; frame 0 is given.
for name in hybrid window; do
  "$program" sample --weights "$here/${name}_all.safetensors" --latents "$out/vtest.npy" --frames 63 --out "$out/$name.ppm" "${threads[@]}"
done
"$here/animate.py" --skip 1 --width 256 "$out/hybrid.ppm" "$out/window.ppm" "$out/video.webp"
