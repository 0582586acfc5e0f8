#!/usr/bin/env bash
# Installs what building and testing need, on Debian and its kin. Does nothing, and quickly, where
# nothing is missing. Where it cannot install, it says what is missing and lets CMake go on.
set -euo pipefail

packages=(gcc libc6-dev cmake ninja-build pkg-config libjansson-dev libedit-dev libmicrohttpd-dev libpcre2-dev
    libutf8proc-dev libhwloc-dev libxxhash-dev uthash-dev libcmocka-dev python3 openssl)

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "install_deps: no Debian system; what CMake finds missing is yours to install" >&2
    exit 0
fi

missing=()
for package in "${packages[@]}"; do
    state=$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null || true)
    [ "$state" = "install ok installed" ] || missing+=("$package")
done
# What another package provides (pkgconf for pkg-config) counts.
if [[ " ${missing[*]} " == *" pkg-config "* ]] && command -v pkg-config >/dev/null; then
    kept=()
    for package in "${missing[@]}"; do [ "$package" = pkg-config ] || kept+=("$package"); done
    missing=("${kept[@]+"${kept[@]}"}")
fi
[ ${#missing[@]} -gt 0 ] || exit 0

echo "install_deps: installing ${missing[*]}" >&2
as_root=(env)
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "install_deps: neither root nor sudo; install by hand: ${missing[*]}" >&2
        exit 0
    fi
    as_root=(sudo env)
fi
"${as_root[@]}" DEBIAN_FRONTEND=noninteractive apt-get update -qq
"${as_root[@]}" DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    "${missing[@]}"
