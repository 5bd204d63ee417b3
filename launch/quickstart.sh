#!/usr/bin/env bash
# From a fresh clone to pictures: samples the bundled model, renders data, trains a small model, compares.
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: ./launch/quickstart.sh [--cpu | --tpu | --gpu] [--minutes N] [--out FOLDER]

Installs what is needed into .venv, samples the bundled model, renders a data set into data/quickstart, shows the bundled
model on scenes it has never seen, trains a small model that is stopped half-way and resumed, and checks that it predicts
held-out scenes better than before.

  --cpu, --tpu, --gpu   what JAX runs on (default: what .venv has, else CPU)
  --minutes N           length of the training on two CPU cores, 1 to 600 (default 3): 600 steps a minute
  --out FOLDER          where pictures and the training run go (default: quickstart)

A second run keeps what is there and trains on if N is larger. To start over, remove FOLDER.
TEXT
}

fail() {
  echo "error: $1" >&2
  exit "${2:-1}"
}

say() {
  printf '\n== %s\n' "$1"
}

# show COMMAND...: prints the command as a user would type it
show() {
  printf '$'
  printf ' %q' "$@"
  printf '\n'
}

# run COMMAND...: prints the command, then runs it
run() {
  show "$@"
  "$@" </dev/null
}

# trained_steps: prints the number of the last step that training has logged
trained_steps() {
  local step
  step="$(tail -n 1 "$workdir/metrics.jsonl" 2>/dev/null | sed -n 's/^{"step": \([0-9]*\).*/\1/p')"
  echo "${step:-0}"
}

# run_until STEP COMMAND...: does what `run` does, and sends the command a termination signal once STEP is logged
run_until() {
  local step="$1" status=0
  shift
  show "$@"
  "$@" </dev/null &
  child=$!
  trap 'kill -TERM "$child" 2>/dev/null || true' EXIT
  while kill -0 "$child" 2>/dev/null && [ "$(trained_steps)" -lt "$step" ]; do sleep 0.5; done
  kill -TERM "$child" 2>/dev/null || true
  wait "$child" || status=$?
  trap - EXIT
  # Exit code 75 means that the signal stopped training, 0 that training was done before the signal came.
  [ "$status" -eq 75 ] || [ "$status" -eq 0 ] || fail "training ended with exit code $status"
}

device="" minutes=3 out=""
while [ $# -gt 0 ]; do
  option="${1%%=*}"
  case "$1" in
    --cpu | --tpu | --gpu) device="$1" ;;
    --minutes | --out)
      [ $# -gt 1 ] || fail "$1 needs a value" 2
      value="$2" && shift
      ;;
    --minutes=* | --out=*) value="${1#*=}" ;;
    -h | --help) usage && exit 0 ;;
    *) fail "unknown option '$1'; allowed: --cpu, --tpu, --gpu, --minutes N, --out FOLDER, --help" 2 ;;
  esac
  [ "$option" != --minutes ] || minutes="$value"
  [ "$option" != --out ] || out="$value"
  shift
done
case "$minutes" in
  [1-9] | [1-9][0-9] | [1-5][0-9][0-9] | 600) ;;
  *) fail "--minutes is '$minutes'; allowed: 1 to 600" 2 ;;
esac
case "$out" in "" | /*) ;; *) out="$PWD/$out" ;; esac

cd "$(dirname "${BASH_SOURCE[0]}")/.."
out="${out:-quickstart}"
data=data/quickstart
workdir="$out/run"
steps=$((minutes * 600))
python=.venv/bin/python

say "1/6 Packages"
run ./launch/setup.sh ${device:+"$device"}

say "2/6 The bundled model: images with their depth, normals and regions, from a class"
run $python -m mmgen_jax.sample --config=configs/shapes_tiny.py --workdir=shapes-tiny --config.sample.class_id=torus \
  --out="$out/torus"

say "3/6 Data: rendered scenes with exact depth, normals and regions; and what the bundled model makes of them"
run $python -m mmgen_jax.data.shapes --data_dir=$data --size=32 --train=4000 --test=512
run $python -m mmgen_jax.demo --config=configs/shapes_tiny.py --config.data.dir=$data --workdir=shapes-tiny \
  --out="$out" --name=bundled --title="The bundled model"

quick=(--config=configs/shapes_quick.py "--config.data.dir=$data" "--workdir=$workdir")
say "4/6 A small model of your own, before training"
if [ -f "$workdir/before.json" ]; then
  echo "already there: $workdir/before.json"
else
  run $python -m mmgen_jax.train "${quick[@]}" --config.train.steps=1 --config.optim.warmup_steps=0
  run $python -m mmgen_jax.evaluate "${quick[@]}" --out="$workdir/before.json"
fi

say "5/6 Training: $steps steps, stopped half-way and resumed by the same command"
training=("$python" -m mmgen_jax.train "${quick[@]}" "--config.train.steps=$steps")
if [ "$(trained_steps)" -lt $((steps / 2)) ]; then
  run_until $((steps / 2)) "${training[@]}"
fi
run "${training[@]}"
run $python -m mmgen_jax.evaluate "${quick[@]}" --out="$workdir/after.json"
run $python -m mmgen_jax.demo "${quick[@]}" --out="$out" --name=trained --title="Trained just now: $(trained_steps) steps"

say "6/6 Did it learn?"
run $python -m mmgen_jax.studies.learned --before="$workdir/before.json" --after="$workdir/after.json"

say "Done in $((SECONDS / 60)) min $((SECONDS % 60)) s. Open $out/gallery.html in a browser"
echo "PNG sheets: $out/torus/sheet.png, $out/bundled/*.png (bundled model), $out/trained/*.png (trained just now)"
