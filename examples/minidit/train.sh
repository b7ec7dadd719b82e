#!/usr/bin/env bash
# train.sh REHYAT OUT_FOLDER [OPERATOR_FOLDER]: all that made the fine-tuned weights of this folder.
#   REHYAT           the command-line program
#   OPERATOR_FOLDER  where examples/torch_op was built, for hybrid layers that run through the library; else PyTorch's
# Latents of the training frames; q, k and v of all layers; their feature maps, distilled; then the model, fine-tuned with hybrid and,
# just as long, with window-only layers: the two in the middle, and all four. Takes about two hours on two cores.
set -euo pipefail
if [ $# -lt 2 ]; then
  echo "usage: $0 REHYAT OUT_FOLDER [OPERATOR_FOLDER]" >&2
  exit 2
fi
rehyat=$1 out=$2 operator=${3:+--operator $3} here=$(cd "$(dirname "$0")" && pwd)
base=$here/minidit.safetensors

"$here/latents.py" --weights "$base" --training "$out/latents"
latents=("$out"/latents/{vtest,box,cup,megamind}.npy)
"$here/capture.py" "$out/captures" --weights "$base" --latents "${latents[@]}" --noise 0.2 0.5 0.8
for layer in 0 1 2 3; do
  clips=()
  for clip in vtest_n0.2 vtest_n0.5 vtest_n0.8 box_n0.5 cup_n0.8 megamind_n0.2; do
    name=$out/captures/${clip}_l$layer
    clips+=(--clip "${name}_q.npy,${name}_k.npy,${name}_v.npy")
  done
  "$rehyat" distill "${clips[@]}" --features 256 --batch-chunks 8 --steps 150 --evaluate-every 30 --out "$out/phi$layer.safetensors"
done

# finetune NAME ATTENTION [OPTION...]
finetune() {
  "$here/finetune.py" "$out/$1.safetensors" --weights "$base" --latents "$out"/latents/*.npy --attention "$2" "${@:3}"
}
for layers in half:softmax,hybrid,hybrid,softmax all:hybrid; do
  name=${layers%:*} attention=${layers#*:}
  # shellcheck disable=SC2086 # the operator's option are two words, or none
  finetune "hybrid_$name" "$attention" --phi "$out/phi{}.safetensors" $operator
  finetune "window_$name" "${attention//hybrid/window}"
done
