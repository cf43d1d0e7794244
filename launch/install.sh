#!/usr/bin/env bash
# Install what the program needs and this machine lacks (Debian or Ubuntu). Nothing happens when all is there.
#
#     ./launch/install.sh            to build and run
#     ./launch/install.sh --tests    also what the tests need
#     ./launch/install.sh --text     also a real English text to train on (the King James Bible, public domain)
set -euo pipefail

packages=(gcc make cmake pkg-config libopenmpi-dev openmpi-bin libjansson-dev libxxhash-dev zlib1g-dev libzstd-dev)
for flag in "$@"; do
    case $flag in
    --tests)
        packages+=(libcmocka-dev g++ clang ccache python3 zstd)
        # A Slurm of the tests' own (tests/slurm/cluster.sh) needs root, as in a container; elsewhere nobody wants its
        # daemons installed.
        [ "$(id -u)" -ne 0 ] || [ -n "${SUDO_USER:-}" ] || packages+=(slurm-wlm)
        ;;
    --text) packages+=(bible-kjv) ;;
    *) echo "usage: $0 [--tests] [--text]" >&2; exit 64 ;;
    esac
done

have() { dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }

missing=()
for package in "${packages[@]}"; do
    have "$package" || missing+=("$package")
done
# Matrix products on the CPU: oneDNN where Debian has it, OpenBLAS elsewhere.
have libdnnl-dev || have libopenblas-dev || missing+=(libdnnl-dev)
[ ${#missing[@]} -eq 0 ] && exit 0

echo "installing: ${missing[*]}"
if ! command -v apt-get >/dev/null; then
    echo "install.sh: no apt-get here; install by hand what matches: ${missing[*]}" >&2
    exit 71
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "install.sh: needs root or sudo for apt-get" >&2; exit 71; }
    as_root=(sudo)
fi
export DEBIAN_FRONTEND=noninteractive
install() { "${as_root[@]}" apt-get install -y -qq --no-install-recommends "$@" >/dev/null; }
"${as_root[@]}" apt-get update -qq
if [[ " ${missing[*]} " == *" libdnnl-dev "* ]] && ! apt-cache show libdnnl-dev >/dev/null 2>&1; then
    missing=("${missing[@]/libdnnl-dev/libopenblas-dev}")
fi
install "${missing[@]}"
