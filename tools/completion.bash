# Bash completion for unmask. The lists say what the table in programs/option_table.c says;
# tests/cli/test_usage.py compares them.

_unmask() {
    local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local command=${COMP_WORDS[1]:-} options=''
    local common='-m --model -h --help'
    COMPREPLY=()
    # "--option=value" arrives as three words.
    if [ "$word" = = ]; then
        word=''
    elif [ "$previous" = = ] && [ "$COMP_CWORD" -ge 2 ]; then
        previous=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    if [ "$COMP_CWORD" -eq 1 ]; then
        mapfile -t COMPREPLY < <(compgen -W 'run logits tokenize inspect score help --help --version' -- "$word")
        return
    fi
    case $previous in
        --policy) options='threshold schedule edit' ;;
        --remask) options='low-confidence random' ;;
        --cache) options='exact none prefix dual' ;;
        --precision) options='reference fast' ;;
        -m | --model)
            mapfile -t COMPREPLY < <(compgen -d -- "$word")
            return
            ;;
        -o | --output | --trace | --file | --jsonl | --chat | --tools)
            mapfile -t COMPREPLY < <(compgen -f -- "$word")
            return
            ;;
        -p | --prompt | --ids | --decode | --system | --max-tokens | --block | --threshold | \
            --edit-threshold | --post-steps | --steps | --cfg | --temperature | --top-k | --top-p | \
            --min-p | --seed | --prefill-chunk | --threads | --mask-token | --delay | --columns | \
            --context | --answer | --answer-ids | --choices | --samples)
            return
            ;;
    esac
    if [ -z "$options" ]; then
        case $command in
            run) options="$common -p --prompt --ids --system --raw --max-tokens --block --policy
                --threshold --edit-threshold --post-steps --steps --remask --cfg --temperature --top-k
                --top-p --min-p --seed --ignore-eos --cache --prefill-chunk --precision --threads
                --mask-token --watch --delay --columns --json --print-ids --trace --verbose" ;;
            logits) options="$common --ids --block --precision --threads --mask-token -o --output
                --verbose" ;;
            tokenize) options="$common -p --prompt --file --jsonl --chat --tools --render --decode" ;;
            inspect) options="$common --mask-token --json --context" ;;
            score) options="$common -p --prompt --ids --answer --answer-ids --choices --jsonl --template
                --samples --seed --block --cfg --precision --threads --mask-token --json --masks
                --verbose" ;;
            help) options='run logits tokenize inspect score' ;;
        esac
    fi
    mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
}

complete -o bashdefault -F _unmask unmask
