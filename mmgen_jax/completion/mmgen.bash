# Completes mmgen in bash 3.2 and later: eval "$(mmgen completion bash)"
_mmgen() {
  local line="${COMP_LINE:0:COMP_POINT}" word words candidate kept
  word="${line##*[[:space:]]}"
  read -ra words <<<"${line%"$word"}"
  kept="${word##*["$COMP_WORDBREAKS"]}" # bash replaces no more than this
  COMPREPLY=()
  while IFS=$'\t' read -r candidate _; do
    candidate="$(printf %q "${candidate#"${word%"$kept"}"}")"
    case "$candidate" in
      '\~'*) candidate="~${candidate:2}" ;; # the home folder, not a file of this name
    esac
    case "$candidate" in
      *[=./]) COMPREPLY+=("$candidate") ;; # more is to come
      *) COMPREPLY+=("$candidate ") ;;
    esac
  done < <(mmgen completion answer "${words[*]:1}" "$word" 2>/dev/null)
}
complete -o nospace -F _mmgen mmgen
