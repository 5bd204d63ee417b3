# Completes mmgen in fish: mmgen completion fish | source
function __mmgen_answers
    set -l before (commandline -opc)
    set -l word (commandline -ct)
    mmgen completion answer "$before[2..]" "$word" 2>/dev/null
end
complete -c mmgen -f -a '(__mmgen_answers)'
