#!/usr/bin/env bash
# train.sh REHYAT OUT_FOLDER [OPERATOR_FOLDER]: all that made the fine-tuned weights of this folder.
#   REHYAT           the command-line program
#   OPERATOR_FOLDER  where examples/torch_op was built, for hybrid layers that run through the library; else PyTorch's
# Latents of the training frames; q, k and v of all layers; their feature maps, distilled; then the model, fine-tuned with hybrid and, just
# as long, with window-only layers: the two in the middle, and all four; and as it is, for comparison. Takes about an hour and a
# quarter on two cores. PyTorch is as fast as the BLAS that is installed: with Debian's, take the package libopenblas0.
set -euo pipefail
if [ $# -lt 2 ]; then
  echo "usage: $0 REHYAT OUT_FOLDER [OPERATOR_FOLDER]" >&2
  exit 2
fi
rehyat=$1 out=$2 operator=${3:+--operator $3} here=$(cd "$(dirname "$0")" && pwd)
base=$here/minidit.safetensors

# PyTorch gives its large tensors back to the system, to fault them in again at the next operation: kept, a step takes half as long.
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000

"$here/latents.py" --weights "$base" --training "$out/latents"
latents=("$out"/latents/{vtest,box,cup,megamind}.npy)
"$here/capture.py" "$out/captures" --weights "$base" --latents "${latents[@]}" --noise 0.15 0.3 0.45 0.6 0.75 0.9
for layer in 0 1 2 3; do
  clips=()
  for q in "$out"/captures/*_l"${layer}"_q.npy; do
    clips+=(--clip "$q,${q%q.npy}k.npy,${q%q.npy}v.npy")
  done
  # As many features as a frame has places, and more: sharp heads look for the same place in other frames.
  "$rehyat" distill "${clips[@]}" --features 512 --initial places --batch-clips 2 --keep-chunks --steps 240 \
    --learning-rate 2e-3 --warmup-steps 10 --evaluate-every 40 --validation-frames 3 --threads "$(nproc)" --out "$out/phi$layer.safetensors"
done

# finetune NAME ATTENTION [OPTION...]
finetune() {
  "$here/finetune.py" "$out/$1.safetensors" --weights "$base" --latents "${latents[@]}" --attention "$2" --grid 9x12 --steps 400 "${@:3}"
}
for layers in half:softmax,hybrid,hybrid,softmax all:hybrid; do
  name=${layers%:*} attention=${layers#*:}
  # shellcheck disable=SC2086 # the operator's option are two words, or none
  finetune "hybrid_$name" "$attention" --phi "$out/phi{}.safetensors" $operator
  finetune "window_$name" "${attention//hybrid/window}"
done
finetune softmax softmax
