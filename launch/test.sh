#!/usr/bin/env bash
# Checks style and runs the tests. Its arguments go to pytest: ./launch/test.sh -k sampling
set -euo pipefail

if [ "${1:-}" = "--help" ] || [ "${1:-}" = "-h" ]; then
  cat <<'TEXT'
Usage: ./launch/test.sh [arguments of pytest]

Makes .venv where it is missing, then runs ruff, mypy, shellcheck and the tests in two processes.

  ./launch/test.sh --slow               also those that take minutes, as continuous integration does
  ./launch/test.sh tests/sampling       only some tests
  ./launch/test.sh -n 0 -x --pdb        one process, into the debugger at the first failure
TEXT
  exit 0
fi

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"
./launch/setup.sh --dev

status=0
.venv/bin/python -m ruff check . || status=1
.venv/bin/python -m mypy || status=1
.venv/bin/shellcheck --external-sources launch/*.sh .ci/run || status=1
# All tests of a file run in the same process, as they share compiled models.
.venv/bin/python -m pytest -n 2 --dist loadfile "$@" </dev/null || status=1
exit "$status"
