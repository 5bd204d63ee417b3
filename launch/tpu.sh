#!/usr/bin/env bash
# Trains on Cloud TPU VMs, one host or a pod, which it asks for as queued resources. docs/tpu/tpu.md is the guide.
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: ./launch/tpu.sh COMMAND NAME [options] [-- arguments]

  create    requests TPU VMs: --zone Z --accelerator A [--spot] [-- flags of gcloud ... queued-resources create]
  setup     waits until they are there, copies the commit HEAD to every worker and installs it
  run       starts training on every worker: -- arguments of python -m mmgen_jax.train
  logs      follows the log of one worker; Ctrl-C ends only the following
  status    what Google Cloud and every worker say
  watch     until training is done: restarts it, also on new TPU VMs after a preemption
  stop      ends training on every worker; it saves first
  delete    gives the TPU VMs back, with all that is on their disks

  --zone Z           for instance us-west4-a; where which TPUs are: https://cloud.google.com/tpu/docs/regions-zones
  --accelerator A    v5litepod-16 (v5e), v6e-8, v5p-8, v4-8 ...
  --project P        default: that of gcloud config
  --spot             cheaper, may be taken away at any time (default: on demand)
  --runtime V        image of the VMs (default: the one for JAX on this accelerator)
  --slices N         as many pods, joined over the data-centre network (default 1)
  --worker N         of logs (default 0)
  --slice N          of logs (default 0)
  --poll SECONDS     of setup and watch (default 60)
  --starts N         of watch: gives up after so many starts without a new step (default 5)
  --delete           of watch: gives the TPU VMs back when watching ends, however it ends
  --dry-run          prints the commands instead of running them

create keeps its options in .tpu/NAME, and run its arguments, so that later commands need only NAME.
Bad input ends with 2; watch ends with 0 when training is done, else with the exit code of training, or 1.
TEXT
}

fail() {
  echo "error: $1" >&2
  exit "${2:-1}"
}

say() {
  echo "tpu: $1"
}

# number OPTION VALUE LEAST: ends with a message unless VALUE is a whole number of at least LEAST
number() {
  case "$2" in
    "" | *[!0-9]* | 0?* | ????????*) fail "$1 is '$2'; allowed: whole numbers from $3" 2 ;;
  esac
  [ "$2" -ge "$3" ] || fail "$1 is '$2'; allowed: whole numbers from $3" 2
}

# set_option --NAME VALUE: checks the value of an option and puts it into a variable
set_option() {
  case "$1" in
    --zone | --project | --accelerator | --runtime)
      case "$2" in "" | -* | *[!a-zA-Z0-9.:-]*) fail "$1 is '$2'; allowed: letters, digits, dots, dashes" 2 ;; esac
      ;;
  esac
  case "$1" in
    --zone) zone="$2" ;;
    --project) project="$2" ;;
    --accelerator) accelerator="$2" ;;
    --runtime) runtime="$2" ;;
    --slices) number "$1" "$2" 1 && slices="$2" ;;
    --worker) number "$1" "$2" 0 && worker="$2" ;;
    --slice) number "$1" "$2" 0 && slice="$2" ;;
    --poll) number "$1" "$2" 0 && poll="$2" ;;
    --starts) number "$1" "$2" 1 && most_starts="$2" ;;
  esac
}

# parse OPTION... [-- ARGUMENT...]: puts options into variables, and the arguments after -- into `rest`
parse() {
  while [ $# -gt 0 ]; do
    case "$1" in
      --spot) spot=1 ;;
      --dry-run) dry=1 ;;
      --delete) delete_at_end=1 ;;
      -h | --help) usage && exit 0 ;;
      --zone=* | --project=* | --accelerator=* | --runtime=* | --slices=* | --worker=* | --slice=* | --poll=* | \
        --starts=*)
        set_option "${1%%=*}" "${1#*=}"
        ;;
      --zone | --project | --accelerator | --runtime | --slices | --worker | --slice | --poll | --starts)
        [ $# -gt 1 ] || fail "$1 needs a value" 2
        set_option "$1" "$2"
        shift
        ;;
      --)
        shift
        rest=("$@")
        given=1
        return
        ;;
      *)
        fail "unknown argument '$1'; see ./launch/tpu.sh --help (arguments of training or gcloud follow a --)" 2
        ;;
    esac
    shift
  done
}

# default_runtime ACCELERATOR: prints the image that Google documents for JAX on this accelerator
default_runtime() {
  case "$1" in
    v5litepod-[0-9]*) echo v2-alpha-tpuv5-lite ;;
    v5p-[0-9]*) echo v2-alpha-tpuv5 ;;
    v6e-[0-9]*) echo v2-alpha-tpuv6e ;;
    v[234]-[0-9]*) echo tpu-ubuntu2204-base ;;
    *) fail "--accelerator is '$1'; allowed: v5litepod-N (v5e), v6e-N, v5p-N, v4-N, v3-N, v2-N; or give --runtime" 2 ;;
  esac
}

COMMANDS="create, setup, run, logs, status, watch, stop, delete"
command="${1:-}"
case "$command" in
  create | setup | run | logs | status | watch | stop | delete) shift ;;
  -h | --help | help) usage && exit 0 ;;
  *) fail "command is '$command'; allowed: $COMMANDS, --help" 2 ;;
esac
name="${1:-}"
case "$name" in
  -h | --help) usage && exit 0 ;;
  [a-z]*) ;;
  *) fail "name is '$name'; allowed: a lower-case letter, then lower-case letters, digits, dashes" 2 ;;
esac
case "$name" in
  *[!a-z0-9-]* | *-) fail "name is '$name'; allowed: a lower-case letter, then lower-case letters, digits, dashes" 2 ;;
esac
shift

cd "$(dirname "${BASH_SOURCE[0]}")/.."
kept=".tpu/$name" # the folder that keeps the options of create and the arguments of run
zone="" project="" accelerator="" runtime="" slices=1 spot="" dry="" delete_at_end=""
worker=0 slice=0 poll=60 most_starts=5
rest=() given=""
# shellcheck source=launch/tpu_commands.sh
. launch/tpu_commands.sh
# shellcheck source=launch/tpu_watch.sh
. launch/tpu_watch.sh

if [ "$command" != create ]; then
  recall options
  parse ${recalled[@]+"${recalled[@]}"}
fi
parse "$@"
case "$command" in
  create | run) ;;
  *) [ -z "$given" ] || fail "$command takes no arguments after --; allowed for create and run" 2 ;;
esac
[ -n "$zone" ] || fail "--zone is not known: $kept/options is missing; give --zone, as to create" 2
case "$command" in
  create | watch)
    [ -n "$accelerator" ] || fail "--accelerator is missing; for instance v5litepod-16" 2
    runtime="${runtime:-$(default_runtime "$accelerator")}"
    ;;
  logs) [ "$slice" -lt "$slices" ] || fail "--slice is '$slice'; allowed: 0 to $((slices - 1))" 2 ;;
esac
[ -n "$dry" ] || command -v gcloud >/dev/null ||
  fail "no gcloud on PATH; install the Google Cloud CLI: https://cloud.google.com/sdk/docs/install"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
"do_$command"
