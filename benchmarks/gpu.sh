#!/usr/bin/env bash
# What the engine does on a GPU, in one go of at most nine minutes: correctness in bfloat16 first, then the tables, as JSON.
# Needs torch, transformers, peft, safetensors and numpy, and nothing of ours installed. SEAL_BENCH_TINY=1: seconds, on a CPU.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}"
out="${OUT:-benchmarks/results}"
python="${PYTHON:-python3}"
mkdir -p "$out"
if [ -n "${SEAL_BENCH_TINY:-}" ]; then
  "$python" benchmarks/agrees.py --model tiny --device cpu --out "$out/agrees.json"
  "$python" -m seal.bench inner --model tiny --device cpu --slots 1,4 --quick --out "$out/inner-tiny.json"
  "$python" -m seal.bench eval --model tiny --device cpu --slots 4 --quick --out "$out/eval-tiny.json"
  exit 0
fi
timeout 60 "$python" benchmarks/agrees.py --model llama-1b-shape --device cuda --out "$out/agrees.json"
timeout 90 "$python" -m seal.bench inner --model llama-1b-shape --device cuda --slots 1,16,64 --quick --out "$out/inner-llama-1b.json"
timeout 60 "$python" -m seal.bench eval --model llama-1b-shape --device cuda --slots 64 --quick --out "$out/eval-llama-1b.json"
timeout 200 "$python" -m seal.bench inner --model qwen-7b-shape --device cuda --slots 1,16,32,64 --quick --out "$out/inner-qwen-7b.json"
timeout 120 "$python" -m seal.bench eval --model qwen-7b-shape --device cuda --slots 64 --quick --out "$out/eval-qwen-7b.json"
