# shellcheck shell=bash disable=SC2154 # tpu.sh sets the variables
# The command watch of tpu.sh, which sources this file. Once per round it asks for the state of the TPUs and workers and
# acts on the answer. It keeps nothing but the counters below, so it may be ended and started again at any time.

PATIENCE=5 # number of rounds for which workers may give no answer, or go on running after others have ended

starts=0  # number of starts since training last made a new step
best=-1   # highest step that any worker has logged
mark=-1   # the value of `best` when training was last started
silent=0  # number of consecutive rounds in which the workers gave no answer
ended=0   # number of consecutive rounds in which training had ended on some worker
fresh=""  # not empty from a request for new TPU VMs until training runs on them; all of that counts as one start
before="" # the line printed last; a line is not printed twice in a row

# tell TEXT: prints the line, unless it was the last one printed
tell() {
  [ "$1" = "$before" ] || say "$1"
  before="$1"
}

# finish CODE TEXT: ends watching with this exit code and message
finish() {
  [ "$1" -eq 0 ] || echo "error: $2" >&2
  [ "$1" -ne 0 ] || say "$2"
  if [ -n "$delete_at_end" ]; then
    do_delete
  else
    say "the TPU VMs are still there and cost money: ./launch/tpu.sh delete $name"
  fi
  exit "$1"
}

# count_start WHY: counts a start; ends watching after too many of them without a new step
count_start() {
  [ "$best" -le "$mark" ] || starts=0
  mark="$best"
  starts=$((starts + 1))
  [ "$starts" -le "$most_starts" ] ||
    finish 1 "gave up after $most_starts starts without a step beyond $((best < 0 ? 0 : best)): $1"
  tell "$1; start $starts of at most $most_starts without a new step"
  silent=0 ended=0
}

# begin_anew WHY: asks for new TPU VMs. The next rounds wait for them, set them up and start training.
begin_anew() {
  count_start "$1"
  [ "$now" = NONE ] || give_back || tell "gcloud did not delete $name; trying again"
  fresh=1
  recall flags
  request ${recalled[@]+"${recalled[@]}"} || tell "gcloud did not take the request; trying again"
}

# begin_again WHY [install]: starts training again on the same TPU VMs. If that fails, the next round sees it.
begin_again() {
  [ -n "$fresh" ] || count_start "$1"
  fresh="" silent=0 ended=0
  stop || return 0
  [ -z "${2:-}" ] || install || return 0
  start "${training[@]}" || return 0
}

# matching LINES PATTERN: prints the first line that matches
matching() {
  # grep gets no pipe: it stops reading at the match, and the writer's broken pipe would then count as no match.
  grep -m 1 -E "$2" <<<"$1"
}

# describe_end STATUS_LINE LINES: prints how a worker ended, as in "HOST ended with exit code CODE: LINE"
describe_end() {
  local host now_is code text
  read -r _ host now_is code _ <<<"$1"
  text="$(matching "$2" "^mmgen-log $host " | cut -d ' ' -f 3-)" || text=""
  case "$now_is" in
    exited) echo "$host ended with exit code $code${text:+: $text}" ;;
    lost) echo "$host went down${text:+ after: $text}" ;;
    *) echo "$host is set up but does not train" ;;
  esac
}

look_at_workers() {
  local lines step line
  if ! lines="$(ask_workers)"; then
    silent=$((silent + 1))
    tell "no answer from the workers: $(gcloud_message)"
    [ "$silent" -lt "$PATIENCE" ] || begin_anew "no answer from the workers in $PATIENCE rounds"
    return 0
  fi
  silent=0
  step="$(printf '%s\n' "$lines" | sed -n 's/^mmgen-status .* \([0-9][0-9]*\)$/\1/p' | sort -n | tail -n 1)"
  [ "${step:--1}" -le "$best" ] || best="$step"
  if line="$(matching "$lines" '^mmgen-status [^ ]* exited [23] ')"; then
    # After a usage error, or an error that training cannot recover from, the same command would end the same way.
    everywhere "bash tpu_worker.sh stop" >/dev/null 2>&1 || true
    finish "$(echo "$line" | cut -d ' ' -f 4)" "$(describe_end "$line" "$lines")"
  fi
  if matching "$lines" '^mmgen-status [^ ]* none ' >/dev/null; then
    begin_again "a worker is not set up" install
  elif line="$(matching "$lines" '^mmgen-status [^ ]* (exited|lost|ready) ')"; then
    look_at_ends "$lines" "$line"
  else
    ended=0
    [ "$best" -lt 0 ] || tell "step $best"
    [ "$best" -ge 0 ] || tell "running, no step yet"
  fi
}

# look_at_ends LINES LINE: decides what to do when training has ended on some worker; LINE tells of the first of them
look_at_ends() {
  local bad
  if ! matching "$1" '^mmgen-status [^ ]* (running|lost|ready) ' >/dev/null &&
    ! matching "$1" '^mmgen-status [^ ]* exited [1-9]' >/dev/null; then
    finish 0 "training is done, step $best"
  fi
  ended=$((ended + 1))
  # Waits one round more, as a preemption shows in the workers first, and a few more while other workers are saving.
  [ "$ended" -ge 2 ] || return 0
  ! matching "$1" '^mmgen-status [^ ]* running ' >/dev/null || [ "$ended" -ge "$PATIENCE" ] || return 0
  bad="$(matching "$(printf '%s\n' "$1" | grep -v -E ' (running -|exited 0|exited 75) ')" '^mmgen-status ')" || bad="$2"
  begin_again "$(describe_end "$bad" "$1")"
}

do_watch() {
  recall command
  training=(${recalled[@]+"${recalled[@]}"})
  [ ${#training[@]} -gt 0 ] || fail "$kept/command is missing; ./launch/tpu.sh run $name starts training first" 2
  now="$(known_state)"
  if [ -n "$dry" ]; then
    dry_round
    return
  fi
  [ -f "$kept/mmgen_jax.tar.gz" ] || pack
  while true; do
    case "$now" in
      ACTIVE) look_at_workers ;;
      NONE) begin_anew "there are no TPU VMs" ;;
      SUSPENDED | FAILED) begin_anew "preempted or failed: $now$(reason)" ;;
      SILENT) tell "gcloud cannot tell about $name: $(gcloud_message)" ;;
      *) tell "$name is $now" ;;
    esac
    sleep "$poll"
    now="$(state)" || now=SILENT
  done
}

# dry_round: prints the commands that follow a preemption
dry_round() {
  ask_workers
  give_back
  recall flags
  request ${recalled[@]+"${recalled[@]}"}
  known_state >/dev/null
  ask_workers
  stop
  install
  start "${training[@]}"
}
