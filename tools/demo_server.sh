#!/usr/bin/env bash
# The demonstration behind `make demo-server`: the bundled model behind HTTP. Says where the page is,
# and a line for curl. UNMASK_PORT chooses another port.
set -euo pipefail
cd "$(dirname "$0")/.."
program=${1:-build/unmask}
export UNMASK_PORT=${UNMASK_PORT:-8000}
cat <<TEXT
The page:  http://127.0.0.1:$UNMASK_PORT/
For curl:  curl http://127.0.0.1:$UNMASK_PORT/v1/chat/completions -d '{"model": "demo", "messages": [{"role": "user", "content": "What is 12 + 30?"}]}'
Ctrl-C ends it.
TEXT
exec "$program" serve -m models/demo --host 127.0.0.1
