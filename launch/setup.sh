#!/usr/bin/env bash
# Makes .venv with the pinned packages unless it is there already; the other commands in this folder call this one.
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: ./launch/setup.sh [--cpu | --tpu | --gpu] [--dev] [--experts] [--gcs] [--docs] [--app] [--compiler]

Makes .venv in the repository and installs requirements.txt into it. When that is done already it ends at once.

  --cpu       JAX for CPUs (default, unless .venv already has another one)
  --tpu       JAX for TPUs, on a TPU VM
  --gpu       JAX for NVIDIA GPUs, with CUDA 12 (driver 525 or later)
  --dev       also requirements-dev.txt: pytest, ruff, mypy and shellcheck
  --experts   also requirements-experts.txt: PyTorch and what labels your own images with it
  --compiler  also requirements-compiler.txt: the TPU compiler, for python -m mmgen_jax.compile; Linux on x86-64
  --gcs       also requirements-gcs.txt: data and workdirs in Google Cloud Storage, gs://
  --docs      also requirements-docs.txt: what builds docs/ as a site, with python -m mkdocs build
  --app       also requirements-app.txt: the page in the browser, python -m mmgen_jax.app

PYTHON=/path/to/python chooses the interpreter (3.11 to 3.13) of a new .venv.
TEXT
}

fail() {
  echo "error: $1" >&2
  exit "${2:-1}"
}

# suitable COMMAND: true if the command is a Python version that the pinned packages have wheels for
suitable() {
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' </dev/null >/dev/null 2>&1
}

# describe COMMAND: prints the command and its version, as in "python3 is Python 3.14.1"
describe() {
  echo "$1 is $("$1" -V </dev/null 2>/dev/null || echo "no Python")"
}

# has_venv COMMAND: true if this Python can make a .venv; Debian and Ubuntu package a part of that module apart
has_venv() {
  "$1" -c 'import ensurepip, venv' </dev/null >/dev/null 2>&1
}

# find_python: prints the Python command that .venv is made with
find_python() {
  local candidate found="" other=""
  if [ -n "${PYTHON:-}" ]; then
    suitable "$PYTHON" || fail "PYTHON=$(describe "$PYTHON"); allowed: 3.11 to 3.13"
    has_venv "$PYTHON" || fail "'$PYTHON' has no venv module (Debian, Ubuntu: apt install python3-venv)"
    echo "$PYTHON"
    return
  fi
  for candidate in python3.13 python3.12 python3.11 python3 python; do
    command -v "$candidate" >/dev/null || continue
    if ! suitable "$candidate"; then
      other="${other:- ($(describe "$candidate"))}"
      continue
    fi
    found="${found:-$candidate}"
    if has_venv "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  [ -z "$found" ] || fail "$found has no venv module (Debian, Ubuntu: apt install $found-venv)"
  fail "no Python 3.11 to 3.13 found$other; install one, or name it: PYTHON=/path/to/python $0"
}

# stamp FILE...: prints one line that changes whenever the variant or a file changes
stamp() {
  echo "$variant $(cat "$@" | cksum)"
}

# jax_package: prints the JAX package of the variant with the version that requirements.txt pins
jax_package() {
  local pin
  pin="$(sed -n 's/^jax\(==[0-9.]*\).*/\1/p' requirements.txt)"
  case "$variant" in
    cpu) echo "jax$pin" ;;
    tpu) echo "jax[tpu]$pin" ;;
    gpu) echo "jax[cuda12]$pin" ;;
  esac
}

# install PIP_ARGUMENT...: runs pip install, or ends with a message
install() {
  local quiet="--quiet"
  [ ! -t 1 ] || quiet="--progress-bar=on"
  .venv/bin/python -m pip install "$quiet" --disable-pip-version-check "$@" </dev/null ||
    fail "pip could not install the packages; its own message is above"
}

# extra NAME: installs requirements-NAME.txt unless that was done before
extra() {
  local file="requirements-$1.txt"
  [ "$(cat ".venv/stamp-$1" 2>/dev/null)" != "$(stamp requirements.txt "$file")" ] || return 0
  echo "setup: installing $file"
  install -r requirements.txt -r "$file"
  stamp requirements.txt "$file" >".venv/stamp-$1"
}

wanted="" extras="" compiler=""
for option in "$@"; do
  case "$option" in
    --cpu | --tpu | --gpu) wanted="${option#--}" ;;
    --compiler) compiler=yes ;;
    --dev | --experts | --gcs | --docs | --app) extras="$extras ${option#--}" ;;
    -h | --help) usage && exit 0 ;;
    *) fail "unknown option '$option'; allowed: --cpu, --tpu, --gpu, --dev, --experts, --gcs, --docs, --app, --compiler, --help" 2 ;;
  esac
done

cd "$(dirname "${BASH_SOURCE[0]}")/.."
installed="$(cat .venv/variant 2>/dev/null || true)"
variant="${wanted:-${installed:-cpu}}"

if ! suitable .venv/bin/python || [ "${installed:-$variant}" != "$variant" ]; then
  python="$(find_python)"
  echo "setup: making .venv with $("$python" -V) for JAX on $variant"
  "$python" -m venv --clear .venv </dev/null || fail "'$python -m venv .venv' failed; its own message is above"
fi
echo "$variant" >.venv/variant

if [ "$(cat .venv/stamp 2>/dev/null)" != "$(stamp requirements.txt)" ]; then
  echo "setup: installing requirements.txt with $(jax_package) (a few minutes, 1 GB or more with all it needs)"
  install -r requirements.txt "$(jax_package)"
  stamp requirements.txt >.venv/stamp
fi
for name in $extras; do extra "$name"; done
if [ -n "$compiler" ] && [ "$(cat .venv/stamp-compiler 2>/dev/null)" != "$(stamp requirements-compiler.txt)" ]; then
  echo "setup: installing requirements-compiler.txt"
  # This package lies apart from the others, as JAX would look for a TPU whenever it found it.
  install --no-deps --upgrade --target .venv/compiler -r requirements-compiler.txt
  stamp requirements-compiler.txt >.venv/stamp-compiler
fi
echo "setup: .venv is ready ($variant, $(.venv/bin/python -V))"
