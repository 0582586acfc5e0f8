# The two commands of the README (demo, check) and their kin. CMake and Ninja do the work; on Debian
# `make deps` installs what they need, and does nothing where nothing is missing.

BUILD ?= build
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 600
JOBS ?= 2
SHELL := /bin/bash
FUZZ_FLAGS := -timeout=20 -rss_limit_mb=4096

.PHONY: all demo demo-server check build install clean deps fuzz check-sanitizers format

all: build

deps:
	@tools/install_deps.sh

build: deps
	cmake -S . -B $(BUILD) -G Ninja
	ninja -C $(BUILD)

demo: deps
	@cmake -S . -B $(BUILD) -G Ninja >/dev/null
	@ninja -C $(BUILD) unmask_program
	@tools/demo.sh $(BUILD)/unmask

# The bundled model in the browser, and for any client of OpenAI's API.
demo-server: deps
	@cmake -S . -B $(BUILD) -G Ninja >/dev/null
	@ninja -C $(BUILD) unmask_program
	@tools/demo_server.sh $(BUILD)/unmask

check: deps
	cmake -S . -B $(BUILD) -G Ninja -DUNMASK_WERROR=ON
	ninja -C $(BUILD)
	@if [ -x tools/check_floors.sh ]; then tools/check_floors.sh; fi
	ctest --test-dir $(BUILD) --output-on-failure -j$(JOBS)

# Tests of code that knows no threads: nothing there can race. The live view is one of them: it draws
# in the thread that reads events, over an engine that cli_test_run drives as well. Quantizing races
# nowhere either (seen once, in two minutes); its files are compared over numbers of threads instead.
# The last ones take minutes there and bring no threads of their own to the pool's, which test_invariance,
# test_host_threads and the server's load drive; once, all of them ran without a finding (test_constraint in 14 minutes).
ONE_THREAD := ^(replay_.*|cli_test_(usage|tokenize|watch|quantize|constraint|svg|bench|pack_cache|policy|run|score)|$\
    server_test_(routes|turns|tls|packaging|malformed)|test_(.*_)?ahead|test_(constraint|logit_rules|schedule|torture|$\
    head|plugin|attention|score|score_invariance|policy_traces|decide|suffix|fused|panels|canvas|chat_template|detokenizer|$\
    dtype|families|family_configs|hf_config|jinja|policy|policy_draws|json_schema|partial_fill|prefix_index|choice|$\
    safetensors|tensor_catalog|tokenizer|tokenizer_errors))$$

# The same programs with steps queued ahead; memory sees those in test_ahead and test_traces_ahead.
TWICE := ^test_(schedule|logit_rules)_ahead$$

# The suite twice more: memory and undefined behaviour, then data races.
check-sanitizers: deps
	cmake -S . -B $(BUILD)-asan -G Ninja -DUNMASK_WERROR=ON -DUNMASK_SANITIZE=address,undefined -DUNMASK_CUDA=OFF
	ninja -C $(BUILD)-asan
	ctest --test-dir $(BUILD)-asan --output-on-failure -j$(JOBS) -E '$(TWICE)'
	cmake -S . -B $(BUILD)-tsan -G Ninja -DUNMASK_WERROR=ON -DUNMASK_SANITIZE=thread -DUNMASK_CUDA=OFF
	ninja -C $(BUILD)-tsan
	ctest --test-dir $(BUILD)-tsan --output-on-failure -j$(JOBS) -E '$(ONE_THREAD)'

install: build
	cmake --install $(BUILD) --prefix $(PREFIX)

# Each target fuzzes for FUZZ_SECONDS from its corpus; findings and new inputs go to the build folder.
fuzz: deps
	@command -v clang >/dev/null || { echo "make fuzz needs clang (apt-get install clang)" >&2; exit 1; }
	cmake -S . -B $(BUILD)-fuzz -G Ninja -DCMAKE_C_COMPILER=clang -DUNMASK_FUZZ=ON \
	    -DUNMASK_SANITIZE=address,undefined -DUNMASK_BENCH=OFF -DUNMASK_CUDA=OFF
	ninja -C $(BUILD)-fuzz
	@set -e; root=$$PWD; for source in tests/fuzz/fuzz_*.c; do \
	    noun=$$(basename $$source .c); noun=$${noun#fuzz_}; \
	    mkdir -p $(BUILD)-fuzz/found/$$noun; \
	    echo "== fuzz_$$noun for $(FUZZ_SECONDS) s"; \
	    (cd $(BUILD)-fuzz/found && $$root/$(BUILD)-fuzz/tests/fuzz_$$noun $(FUZZ_FLAGS) \
	        -max_total_time=$(FUZZ_SECONDS) $$noun $$root/tests/fuzz/corpus/$$noun); \
	done

format:
	clang-format -i $$(git ls-files '*.c' '*.h')

clean:
	rm -rf $(BUILD) $(BUILD)-asan $(BUILD)-tsan $(BUILD)-fuzz
