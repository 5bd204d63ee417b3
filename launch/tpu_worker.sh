#!/usr/bin/env bash
# The part of tpu.sh that runs on a worker, which is a TPU VM. tpu.sh copies this file into the home folder there.
set -euo pipefail

UV="uv==0.13.8" # installs a Python if the image has none that is new enough
GRACE="${GRACE:-180}" # seconds that training has to save after it was told to stop

usage() {
  cat <<'TEXT'
Usage: bash tpu_worker.sh setup | start ARGUMENT... | status | log | stop

  setup     unpacks ~/mmgen_jax.tar.gz into ~/mmgen_jax, where data/ and runs/ stay, and installs it with JAX for TPUs
  start     starts python -m mmgen_jax.train ARGUMENT... in the background
  status    "mmgen-status HOST none|running|exited|lost CODE STEP" and, where it ended badly, "mmgen-log HOST LINE"
  log       follows ~/mmgen_run/log
  stop      asks training to save and end, and ends it by force after GRACE seconds (default 180)

~/mmgen_run holds the log, those of earlier starts, and pid and exit code of training.
TEXT
}

fail() {
  echo "error: $(hostname): $1" >&2
  exit "${2:-1}"
}

# running: true if training runs, which holds a lock. Unlike the number of a process, a lock cannot belong to a process
# that has nothing to do with training, and it does not outlive a reboot.
running() {
  [ -f "$run/lock" ] && ! flock --nonblock "$run/lock" true
}

# good_python COMMAND: true if launch/setup.sh accepts this Python
good_python() {
  "$1" -c 'import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
    </dev/null >/dev/null 2>&1
}

# find_python: prints a Python command that setup accepts, and installs one first if need be: images of TPU VMs often
# have Python 3.10 only
find_python() {
  local candidate
  for candidate in python3.13 python3.12 python3.11 python3; do
    ! good_python "$candidate" || { echo "$candidate" && return; }
  done
  PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet --user "$UV" >&2 </dev/null ||
    fail "no Python 3.11 to 3.13, and pip could not install $UV to get one; its own message is above"
  "$HOME/.local/bin/uv" python install --quiet 3.12 >&2 </dev/null ||
    fail "no Python 3.11 to 3.13, and uv could not install one; its own message is above"
  "$HOME/.local/bin/uv" python find 3.12 </dev/null
}

setup() {
  local python
  ! running || fail "training runs on this worker; stop it first" 2
  [ -f mmgen_jax.tar.gz ] || fail "no $HOME/mmgen_jax.tar.gz; ./launch/tpu.sh setup copies it" 2
  mkdir -p mmgen_jax "$run"
  find mmgen_jax -mindepth 1 -maxdepth 1 ! -name .venv ! -name data ! -name runs -exec rm -rf {} +
  tar -xzf mmgen_jax.tar.gz -C mmgen_jax
  cd mmgen_jax
  if good_python .venv/bin/python; then
    ./launch/setup.sh --tpu --gcs
  else
    python="$(find_python)"
    PYTHON="$python" ./launch/setup.sh --tpu --gcs
  fi
}

# use_huge_pages: turns on transparent huge pages, which make training on a TPU start and end faster (JAX recommends it)
use_huge_pages() {
  local file=/sys/kernel/mm/transparent_hugepage/enabled
  if grep -q '\[always\]' "$file" 2>/dev/null; then return; fi
  echo always | sudo -n tee "$file" >/dev/null 2>&1 || echo "warning: $(hostname): no transparent huge pages" >&2
}

# start ARGUMENT...: starts training in the background
start() {
  local words
  [ -x mmgen_jax/.venv/bin/python ] || fail "not set up; ./launch/tpu.sh setup comes first" 2
  mkdir -p "$run"
  exec 9>"$run/lock"
  flock --nonblock 9 || fail "training runs already on this worker" 2
  rm -f "$run/exit" "$run/pid"
  use_huge_pages
  [ ! -f "$run/log" ] || mv "$run/log" "$run/log-until-$(date -u +%Y%m%dT%H%M%SZ)"
  printf -v words ' %q' "$@"
  echo "== $(date -u +%FT%TZ) $(hostname): python -m mmgen_jax.train$words" >>"$run/log"
  # The process that waits for training inherits the lock with file descriptor 9.
  nohup setsid bash "$self" supervise "$@" >>"$run/log" 2>&1 </dev/null &
}

# supervise ARGUMENT...: runs training and then writes its exit code to a file
supervise() {
  local child code=0
  cd mmgen_jax
  trap : TERM INT HUP # a shutdown of the VM signals all processes at once, and the exit code must still be written
  setsid .venv/bin/python -m mmgen_jax.train "$@" 9>&- &
  child=$!
  echo "$child" >"$run/pid"
  wait "$child" || code=$?
  while kill -0 "$child" 2>/dev/null; do # a loop, because a signal ends `wait` before training has ended
    code=0
    wait "$child" || code=$?
  done
  echo "== $(date -u +%FT%TZ) $(hostname): exit code $code" >>"$run/log"
  echo "$code" >"$run/exit.new"
  mv "$run/exit.new" "$run/exit"
}

# last_words: prints the last error line of the log, or else its last line
last_words() {
  local lines line
  lines="$(tail -n 200 "$run/log" | grep -v '^== ' | grep '[^[:space:]]')" || return 0
  line="$(printf '%s\n' "$lines" | grep '^error: ' | tail -n 1)" || line="$(printf '%s\n' "$lines" | tail -n 1)"
  echo "mmgen-log $(hostname) $line"
}

status() {
  local state=none code=- step=-
  if running; then
    state=running
  elif [ -f "$run/exit" ]; then
    state=exited
    code="$(cat "$run/exit")"
  elif [ -f "$run/pid" ]; then
    state=lost # training ended without an exit code, so the VM must have gone down
  elif [ -x mmgen_jax/.venv/bin/python ]; then
    state=ready
  fi
  if [ -f "$run/log" ]; then
    step="$(tail -c 1000000 "$run/log" | grep -o 'step [0-9][0-9]*' | tail -n 1 | tr -d 'a-z ')" || true
  fi
  echo "mmgen-status $(hostname) $state $code ${step:--}"
  case "$state $code" in "exited 0" | none* | ready* | running*) ;; *) last_words ;; esac
}

stop() {
  local pid i
  if ! running; then
    echo "$(hostname): nothing runs"
    return
  fi
  pid="$(cat "$run/pid" 2>/dev/null)" || fail "training is just starting; try again"
  kill -TERM "$pid" 2>/dev/null || true
  for ((i = 0; i < GRACE; i++)); do
    running || break
    sleep 1
  done
  if running; then
    kill -KILL -- "-$pid" 2>/dev/null || true # the whole process group, data workers included
    for ((i = 0; i < 10; i++)); do
      running || break
      sleep 1
    done
    ! running || fail "training (process $pid) cannot be ended"
  fi
  echo "$(hostname): ended with exit code $(cat "$run/exit" 2>/dev/null || echo '?')"
}

cd
run="$HOME/mmgen_run"
self="$HOME/tpu_worker.sh"
command="${1:-}"
[ $# -eq 0 ] || shift
case "$command" in
  setup | status | stop) "$command" ;;
  start | supervise) "$command" "$@" ;;
  log) tail -n 100 -F "$run/log" ;;
  -h | --help) usage ;;
  *) fail "command is '$command'; allowed: setup, start, status, log, stop, --help" 2 ;;
esac
