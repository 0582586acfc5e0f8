#!/usr/bin/env bash
# The demonstration behind `make demo`: a sudoku, a sum and a story, live in the terminal. Without a
# terminal it prints the final texts.
set -euo pipefail
cd "$(dirname "$0")/.."
program=${1:-build/unmask}
model=models/demo
puzzle=601980020905020001020601005249010006000000049050200310060098070000072560100500098

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\033[1m' plain=$'\033[0m'; else bold='' plain=''; fi
title() { printf '\n%s%s%s\n' "$bold" "$1" "$plain"; }
rows() { fold -w 9 <<<"$1" | tr 0 .; }

title "A sudoku with 45 blanks"
rows "$puzzle"
echo
"$program" run -m "$model" -p "Solve this sudoku: $puzzle" --watch --columns 9 --delay 400 \
    --block 96 --threshold 0.99 --max-tokens 96

title "What is 123 + 456?"
"$program" run -m "$model" -p "What is 123 + 456?" --watch --delay 400 --block 32 --threshold 0.9 \
    --max-tokens 32

title "Tell me a story about dog, ball and garden."
"$program" run -m "$model" -p "Tell me a story about dog, ball and garden." --watch --delay 30 \
    --block 32 --threshold 0.9 --max-tokens 192
