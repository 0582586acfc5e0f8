"""bench/serve_fuzz.py in small: UNMASK_FUZZ_REQUESTS (20000) malformed requests, and SIGTERM while streams run."""
import os
import subprocess
import sys

PROGRAM, PROJECT = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
done = subprocess.run([sys.executable, os.path.join(PROJECT, "bench", "serve_fuzz.py"), PROGRAM, PROJECT, "--processes", "4",
                       "--requests", os.environ.get("UNMASK_FUZZ_REQUESTS", "20000")])
sys.exit(done.returncode)
