#!/usr/bin/env bash
# The demonstration's sudoku by tier, each with THREADS threads (default 2): median of RUNS runs of
# the decoding time that the program itself reports. Usage: bench/bench_sudoku.sh [BUILD] [MODEL]
set -euo pipefail
cd "$(dirname "$0")/.."
unmask=${1:-build}/unmask
model=${2:-models/demo}
runs=${RUNS:-5}
prompt=$(python3 -c "
import json
for line in open('$model/eval.jsonl'):
    item = json.loads(line)
    if item['kind'] == 'sudoku-45' and item['correct']:
        print(item['prompt'])
        break")
reference=
for tier in scalar avx2 avx512; do
    times=()
    for _ in $(seq "$runs"); do
        out=$(UNMASK_CPU=$tier "$unmask" run -m "$model" -p "$prompt" --block 96 --threshold 0.99 \
            --max-tokens 96 --threads "${THREADS:-2}" --json) || { times=(); break; }
        times+=("$(python3 -c "import json,sys; r=json.loads(sys.argv[1]); print(r['prefill_ms'] + r['decode_ms'], r['forwards'])" "$out")")
    done
    [ ${#times[@]} -gt 0 ] || continue
    median=$(printf '%s\n' "${times[@]}" | sort -g | sed -n "$(((runs + 1) / 2))p")
    reference=${reference:-${median% *}}
    python3 -c "
import sys
tier, ms, forwards, reference = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
print(f'{tier:7} {ms:10.1f} ms {forwards:4d} forwards {ms / forwards:8.2f} ms a forward {reference / ms:7.1f} x scalar')" "$tier" ${median} "$reference"
done
