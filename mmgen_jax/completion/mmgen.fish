# Completes mmgen in fish: mmgen completion fish | source
function __mmgen_answers
    set -l before (commandline -opc)
    set -l word (commandline -ct)
    set -l first ''
    if test (count $before) -gt 1
        set first $before[2]
    end
    mmgen completion answer "$first" "$word" 2>/dev/null
end
complete -c mmgen -f -a '(__mmgen_answers)'
