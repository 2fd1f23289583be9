#!/usr/bin/env bash
# What the engine does on a GPU, in one go of at most nine minutes: correctness in bfloat16 first, then the tables, as JSON.
# A part that fails is named, the others go on, and the script fails at its end. PARTS="inner-qwen eval": only those whose names,
# which are their files', begin so.
# Needs torch, transformers, peft, safetensors and numpy, and nothing of ours installed. SEAL_BENCH_TINY=1: seconds, on a CPU.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}"
out="${OUT:-benchmarks/results}"
python="${PYTHON:-python3}"
mkdir -p "$out"
failed=0
ran=0

# part NAME SECONDS ARGUMENTS: runs python with them; one that fails or takes too long does not keep the others from their turn.
# What is left of nine minutes is all there is, whatever is allowed a part.
part() {
  chosen "$1" || return 0
  ran=1
  local limit=$(( $2 < 540 - SECONDS ? $2 : 540 - SECONDS ))  # 0 would be no limit to timeout
  { [ "$limit" -gt 0 ] && timeout "$limit" "$python" "${@:3}" --out "$out/$1.json"; } || { echo "failed: ${*:3}" >&2; failed=1; }
}

# chosen NAME: whether it is among PARTS, or there are none
chosen() {
  local one
  [ -n "${PARTS:-}" ] || return 0
  for one in $PARTS; do
    if [[ "$1" == "$one"* ]]; then return 0; fi
  done
  return 1
}

"$python" -c "import torch, transformers, peft"  # from a cold disk they take a minute, which is no part's
if [ -n "${SEAL_BENCH_TINY:-}" ]; then
  part agrees 120 benchmarks/agrees.py --model tiny --device cpu
  part inner-tiny 120 -m seal.bench inner --model tiny --device cpu --slots 1,4 --quick --within 30
  part eval-tiny 120 -m seal.bench eval --model tiny --device cpu --slots 4 --quick
else
  part agrees 60 benchmarks/agrees.py --model llama-1b-shape --device cuda
  part inner-llama-1b 90 -m seal.bench inner --model llama-1b-shape --device cuda --slots 1,16,64 --quick --within 30
  part eval-llama-1b 60 -m seal.bench eval --model llama-1b-shape --device cuda --slots 64 --quick
  part inner-qwen-7b 200 -m seal.bench inner --model qwen-7b-shape --device cuda --slots 1,16,32,64 --quick --within 90
  part eval-qwen-7b 120 -m seal.bench eval --model qwen-7b-shape --device cuda --slots 64 --quick
fi
[ "$ran" = 1 ] || { echo "no part is named ${PARTS:-}" >&2; exit 1; }
exit "$failed"
