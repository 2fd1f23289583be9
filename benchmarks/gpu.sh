#!/usr/bin/env bash
# What the engine does on a GPU, in one go of at most nine minutes: correctness in bfloat16 first, then the tables, as JSON.
# A part that fails is named, the others go on, and the script fails at its end.
# Needs torch, transformers, peft, safetensors and numpy, and nothing of ours installed. SEAL_BENCH_TINY=1: seconds, on a CPU.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}"
out="${OUT:-benchmarks/results}"
python="${PYTHON:-python3}"
mkdir -p "$out"
failed=0

# part SECONDS ARGUMENTS: runs python with them; one that fails or takes too long does not keep the others from their turn
part() {
  timeout "$1" "$python" "${@:2}" || { echo "failed: ${*:2}" >&2; failed=1; }
}

if [ -n "${SEAL_BENCH_TINY:-}" ]; then
  part 120 benchmarks/agrees.py --model tiny --device cpu --out "$out/agrees.json"
  part 120 -m seal.bench inner --model tiny --device cpu --slots 1,4 --quick --within 30 --out "$out/inner-tiny.json"
  part 120 -m seal.bench eval --model tiny --device cpu --slots 4 --quick --out "$out/eval-tiny.json"
  exit "$failed"
fi
part 60 benchmarks/agrees.py --model llama-1b-shape --device cuda --out "$out/agrees.json"
part 90 -m seal.bench inner --model llama-1b-shape --device cuda --slots 1,16,64 --quick --within 30 --out "$out/inner-llama-1b.json"
part 60 -m seal.bench eval --model llama-1b-shape --device cuda --slots 64 --quick --out "$out/eval-llama-1b.json"
part 200 -m seal.bench inner --model qwen-7b-shape --device cuda --slots 1,16,32,64 --quick --within 90 --out "$out/inner-qwen-7b.json"
part 120 -m seal.bench eval --model qwen-7b-shape --device cuda --slots 64 --quick --out "$out/eval-qwen-7b.json"
exit "$failed"
