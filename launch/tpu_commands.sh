# shellcheck shell=bash disable=SC2154 # tpu.sh sets the variables
# The commands of tpu.sh except watch. tpu.sh sources this file. All calls of gcloud are in here.

# quote WORD: prints the word so that a shell reads it back unchanged
quote() {
  case "$1" in
    "" | *[!a-zA-Z0-9_@%+=:,./-]*) printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\"'\"'/g")" ;;
    *) printf '%s' "$1" ;;
  esac
}

# quoted WORD...: prints all words quoted, on one line
quoted() {
  local word space=""
  for word in "$@"; do
    printf '%s' "$space"
    quote "$word"
    space=" "
  done
  echo
}

# keep FILE WORD...: writes the words to .tpu/NAME/FILE, one a line
keep() {
  local file="$kept/$1" word
  shift
  [ -z "$dry" ] || return 0
  mkdir -p "$kept"
  for word in "$@"; do printf '%s\n' "$word"; done >"$file"
}

# recall FILE: reads the words that `keep` wrote into `recalled`; false if there is no such file
recall() {
  local line
  recalled=()
  [ -f "$kept/$1" ] || return 0
  while IFS= read -r line; do recalled+=("$line"); done <"$kept/$1"
}

exec 3>&1 # a dry run prints here, so that its commands are seen also from within $(...)

# execute WORD...: runs the command; in a dry run, prints it instead
execute() {
  if [ -n "$dry" ]; then
    quoted "$@" >&3
  else
    "$@" </dev/null
  fi
}

# gcloud_tpus GROUP VERB WORD...: calls gcloud for this zone and project; gcloud asks no questions
gcloud_tpus() {
  execute gcloud compute tpus "$@" "--zone=$zone" ${project:+"--project=$project"} --quiet
}

# state: prints the state of the queued resource, or NONE if it does not exist. If gcloud fails, the status is false and
# the message is in $scratch/error.
state() {
  local answer
  if answer="$(gcloud_tpus queued-resources describe "$name" "--format=value(state.state)" 2>"$scratch/error")"; then
    [ -z "$dry" ] || answer=ACTIVE
    echo "${answer:-UNKNOWN}"
  elif grep -q NOT_FOUND "$scratch/error"; then
    echo NONE
  else
    return 1
  fi
}

# gcloud_message: prints the first line of gcloud's last message
gcloud_message() {
  sed -n '/[^ ]/{s/^ERROR: *//;p;q;}' "$scratch/error"
}

known_state() {
  state || fail "gcloud cannot tell about '$name': $(gcloud_message)"
}

# nodes: prints the names of the TPUs; each slice has one
nodes() {
  local i
  [ "$slices" -gt 1 ] || echo "$name"
  [ "$slices" -eq 1 ] || for ((i = 0; i < slices; i++)); do echo "$name-$i"; done
}

# on_node NODE WORKERS COMMAND: runs the command on workers of a TPU; ssh gives up on a machine that stops answering
on_node() {
  gcloud_tpus tpu-vm ssh "$1" "--worker=$2" --ssh-flag=-oConnectTimeout=30 --ssh-flag=-oServerAliveInterval=30 \
    "--command=$3"
}

# everywhere COMMAND: runs the command on all workers of all slices at once; false if it fails on any of them
everywhere() {
  local node pids="" pid status=0
  for node in $(nodes); do
    on_node "$node" all "$1" &
    pids="$pids $!"
    [ -z "$dry" ] || wait # so that a dry run prints the commands in order
  done
  [ -n "$dry" ] || for pid in $pids; do wait "$pid" || status=1; done
  return $status
}

# On a worker that was never set up there is no script to ask.
ASK="if [ -f tpu_worker.sh ]; then bash tpu_worker.sh status; else echo mmgen-status new none - -; fi"

# ask_workers: prints lines "mmgen-status HOST STATE CODE STEP" and "mmgen-log HOST TEXT" of all workers; false if a
# worker cannot be reached
ask_workers() {
  local answer
  answer="$(everywhere "$ASK" 2>"$scratch/error")" || return 1
  printf '%s\n' "$answer" | grep '^mmgen-' | sort || [ -n "$dry" ]
}

# request FLAG...: asks for the TPU VMs; the flags are handed to gcloud unchanged
request() {
  local words=("--accelerator-type=$accelerator" "--runtime-version=$runtime")
  if [ "$slices" -gt 1 ]; then
    words+=("--node-count=$slices" "--node-prefix=$name")
  else
    words+=("--node-id=$name")
  fi
  [ -z "$spot" ] || words+=(--spot)
  gcloud_tpus queued-resources create "$name" "${words[@]}" "$@"
}

do_create() {
  local words=("--zone=$zone" "--accelerator=$accelerator" "--runtime=$runtime" "--slices=$slices") now=NONE
  [ -z "$project" ] || words+=("--project=$project")
  [ -z "$spot" ] || words+=(--spot)
  one_line ${rest[@]+"${rest[@]}"}
  [ -n "$dry" ] || now="$(known_state)"
  [ "$now" = NONE ] || fail "'$name' is there already, in state $now; delete it or take another name" 2
  request ${rest[@]+"${rest[@]}"} || fail "gcloud did not take the request; its own message is above"
  keep options "${words[@]}"
  keep flags ${rest[@]+"${rest[@]}"}
  [ -n "$dry" ] || say "requested; next: ./launch/tpu.sh setup $name (waits until the TPU is there)"
}

# one_line WORD...: ends with a message if a word has several lines, as `keep` writes one word a line
one_line() {
  local word
  for word in "$@"; do
    case "$word" in *$'\n'*) fail "argument '${word%%$'\n'*}...' has more than one line; allowed: one" 2 ;; esac
  done
}

wait_until_active() {
  local now before=""
  while true; do
    now="$(known_state)"
    case "$now" in
      ACTIVE) return ;;
      NONE) fail "there is no '$name'; ./launch/tpu.sh create $name first" ;;
      FAILED | SUSPENDING | SUSPENDED | DELETING) fail "'$name' is $now$(reason); delete and create it again" ;;
    esac
    [ "$now" = "$before" ] || say "$name is $now; waiting (Ctrl-C ends only the waiting)"
    before="$now"
    sleep "$poll"
  done
}

# reason: prints why the request failed, if Google Cloud gives a reason
reason() {
  local text
  text="$(gcloud_tpus queued-resources describe "$name" "--format=value(state.failedData.error.message)" \
    2>/dev/null)" || return 0
  [ -z "$text" ] || printf ': %s' "${text%%$'\n'*}"
}

# pack: packs the commit HEAD unless that was done before, so that a restart runs the same code
pack() {
  [ -n "$dry" ] || mkdir -p "$kept"
  execute git archive --format=tar.gz "--output=$kept/mmgen_jax.tar.gz" HEAD ||
    fail "git did not pack the commit HEAD; its own message is above"
}

# install: copies the packed code to all workers and installs its packages there
install() {
  local node
  for node in $(nodes); do
    gcloud_tpus tpu-vm scp "$kept/mmgen_jax.tar.gz" launch/tpu_worker.sh "$node:" --worker=all \
      --scp-flag=-oConnectTimeout=30 --scp-flag=-oServerAliveInterval=30 || return 1
  done
  everywhere "bash tpu_worker.sh setup"
}

do_setup() {
  if [ -z "$dry" ] && [ -n "$(git status --porcelain --untracked-files=no)" ]; then
    echo "warning: changes that are not committed are not copied; HEAD is" >&2
  fi
  wait_until_active
  pack
  install || fail "setup failed on a worker; its own message is above"
  [ -n "$dry" ] || say "set up; next: ./launch/tpu.sh run $name -- --config=... --workdir=gs://..."
}

# start WORD...: starts training with these arguments on all workers
start() {
  everywhere "bash tpu_worker.sh start $(quoted "$@")"
}

do_run() {
  local answer
  [ ${#rest[@]} -gt 0 ] || fail "no arguments of training; they follow a --, as in -- --config=... --workdir=gs://..." 2
  one_line "${rest[@]}"
  answer="$(ask_workers)" || fail "no answer from the workers of '$name': $(gcloud_message)"
  case "$answer" in
    *" none "*) fail "a worker of '$name' is not set up; ./launch/tpu.sh setup $name first" ;;
    *" running "*) fail "training runs already on '$name'; ./launch/tpu.sh stop $name first" ;;
  esac
  keep command "${rest[@]}"
  start "${rest[@]}" || fail "training did not start on every worker; ./launch/tpu.sh status $name shows where"
  [ -n "$dry" ] || say "started; next: ./launch/tpu.sh logs $name, ./launch/tpu.sh watch $name"
}

do_logs() {
  local node
  node="$(nodes | sed -n "$((slice + 1))p")"
  on_node "$node" "$worker" "bash tpu_worker.sh log" ||
    fail "no log from worker $worker of '$node'; its own message is above"
}

do_status() {
  local now
  now="$(known_state)"
  [ -n "$dry" ] || echo "$name: $now$([ "$now" != FAILED ] || reason)"
  [ "$now" = ACTIVE ] || return 0
  ask_workers || fail "no answer from the workers of '$name': $(gcloud_message)"
}

# stop: stops training on all workers; workers that were never set up have nothing to stop
stop() {
  everywhere "if [ -f tpu_worker.sh ]; then bash tpu_worker.sh stop; fi"
}

do_stop() {
  stop || fail "training did not stop on every worker; its own message is above"
}

give_back() {
  gcloud_tpus queued-resources delete "$name" --force
}

do_delete() {
  give_back || fail "gcloud did not delete '$name'; its own message is above"
  [ -n "$dry" ] || rm -rf "$kept"
}
