#!/usr/bin/env bash
# Installs into a folder of its own, builds the example against what was installed, and runs it.
set -euo pipefail
program=$(readlink -f "$1")
project=$(readlink -f "$2")
build=$(dirname "$program")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

fail() {
    echo "test_install: $1" >&2
    exit 1
}

[ -e "$build/libunmask.so" ] || {
    echo "the shared library is not built: nothing to install"
    exit 1
}
cmake --install "$build" --prefix "$folder" >"$folder/log" 2>&1 || { cat "$folder/log"; fail "cmake --install"; }
for file in bin/unmask include/unmask.h share/man/man1/unmask.1 \
    share/bash-completion/completions/unmask; do
    [ -s "$folder/$file" ] || fail "$file is not installed"
done
pc=$(find "$folder" -name unmask.pc)
[ -n "$pc" ] || fail "unmask.pc is not installed"
lines=$(wc -l <"$project/examples/minimal.c")
[ "$lines" -lt 60 ] || fail "examples/minimal.c has $lines lines"

export PKG_CONFIG_PATH
PKG_CONFIG_PATH=$(dirname "$pc")
flags=$(pkg-config --cflags --libs unmask)
sanitizers=$(sed -n 's/^UNMASK_SANITIZE:STRING=\(..*\)/-fsanitize=\1/p' "$build/CMakeCache.txt")
compiler=$(sed -n 's/^CMAKE_C_COMPILER:[A-Z]*=//p' "$build/CMakeCache.txt")
# shellcheck disable=SC2086
"${compiler:-cc}" -std=c11 -Wall -Wextra -Werror $sanitizers "$project/examples/minimal.c" $flags \
    -o "$folder/minimal"
library=$(dirname "$(find "$folder" -name 'libunmask.so' | head -1)")
answer=$(LD_LIBRARY_PATH=$library "$folder/minimal" "$project/models/demo" \
    '<role>HUMAN</role>What is 123 + 456?<|role_end|><role>ASSISTANT</role>')
[ "$answer" = "123 + 456 = 579" ] || fail "the example says: $answer"

# A policy of one's own needs the header alone.
# shellcheck disable=SC2046,SC2086
"${compiler:-cc}" -std=c11 -Wall -Wextra -Werror $sanitizers -shared -fPIC $(pkg-config --cflags unmask) \
    "$project/examples/policy_example.c" -o "$folder/mine.so"
answer=$(cd "$folder" && bin/unmask run -m "$project/models/demo" -p 'What is 123 + 456?' --policy ./mine.so)
[ "$answer" = "123 + 456 = 579" ] || fail "the example policy says: $answer"

# The header alone compiles as C11 and as C++, where a compiler for it is there.
echo '#include <unmask.h>' >"$folder/alone.c"
"${compiler:-cc}" -std=c11 -pedantic -Wall -Wextra -Werror -fsyntax-only -I"$folder/include" "$folder/alone.c"
if command -v c++ >/dev/null; then
    cp "$folder/alone.c" "$folder/alone.cc"
    c++ -Wall -Wextra -Werror -fsyntax-only -I"$folder/include" "$folder/alone.cc"
fi
[ "$("$folder/bin/unmask" --version)" = "$("$program" --version)" ] || fail "the installed program differs"
echo ok
