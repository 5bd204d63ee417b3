# Completes mmgen in zsh: eval "$(mmgen completion zsh)"
_mmgen() {
  local before='' tab=$'\t' line word
  local -a more more_shown whole whole_shown
  (( CURRENT > 2 )) && before="${words[2,CURRENT-1]}"
  for line in "${(@f)$(mmgen completion answer "$before" "$PREFIX" 2>/dev/null)}"; do
    word="${line%%$tab*}"
    case "$word" in
      '') ;;
      *[=./]) more+=("$word"); more_shown+=("${line/$tab/  }") ;; # more is to come
      *) whole+=("$word"); whole_shown+=("${line/$tab/  }") ;;
    esac
  done
  compadd -l -S '' -d more_shown -a more
  compadd -l -d whole_shown -a whole
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
compdef _mmgen mmgen
