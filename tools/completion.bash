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
        mapfile -t COMPREPLY < <(compgen -W 'run logits tokenize inspect score bench quantize serve help --help --version' -- "$word")
        return
    fi
    case $previous in
        --policy)
            case $word in
                */*)
                    mapfile -t COMPREPLY < <(compgen -f -- "$word")
                    return
                    ;;
            esac
            options='threshold schedule edit origin maskgit margin entropy sequential static dynamic
                entropy-bound factor hierarchy credit first-hitting multi-block levenshtein'
            ;;
        --attention) options='model blocks' ;;
        --metric) options='confidence entropy' ;;
        --remask) options='low-confidence random' ;;
        --cache) options='exact none prefix dual' ;;
        --fold) options='auto off' ;;
        --precision) options='reference fast' ;;
        --kv-type) options='auto f32 bf16 int8' ;;
        --prefix-cache) options='off on' ;;
        -m | --model)
            mapfile -t COMPREPLY < <(compgen -d -- "$word"; compgen -f -X '!*.gguf' -- "$word")
            return
            ;;
        --synthetic) options='llada2-mini llada-8b llada-moe sdar-8b dream-7b llada-169m' ;;
        -t | --type) options='f32 f16 bf16 q8_0 q4_0 q4_k q5_k q6_k' ;;
        -o | --output | --pack-cache | --plot | --trace | --file | --imatrix | --jsonl | --chat | --tools | --log | \
            --config | --tls-cert | --tls-key)
            mapfile -t COMPREPLY < <(compgen -f -- "$word")
            return
            ;;
        -p | --prompt | --ids | --decode | --system | --max-tokens | --block | --sub-block | \
            --policy-args | --threshold | --steps | --edit-threshold | --post-steps | --eps | \
            --alg-temp | --factor | --entropy-bound | --low-threshold | --credit-alpha | \
            --credit-beta | --credit-gamma | --window | --block-add | --block-ready | --cfg | \
            --temperature | --top-k | --top-p | --min-p | --seed | --prefill-chunk | --expert-cap | --device | --threads | \
            --mask-token | --delay | --columns | --context | --answer | \
            --answer-ids | --choices | --samples | --layers | --rows | --prefill | --repeat | \
            --tokens-per-forward | --host | --port | --served-model-name | --api-key | --cache-tokens | \
            --max-queue | --max-connections | --max-body-bytes | --timeout)
            return
            ;;
    esac
    if [ -z "$options" ]; then
        case $command in
            run) options="$common -p --prompt --ids --system --raw --suffix --max-tokens --ignore-eos --json-object --json-schema --block
                --sub-block --attention --policy --policy-args --threshold --steps --remask --edit-threshold
                --post-steps --eps --alg-temp --factor --entropy-bound --low-threshold --credit-alpha
                --credit-beta --credit-gamma --window --block-add --block-ready --metric --temperature
                --top-k --top-p --min-p --seed --cfg --logits-eos-inf --confidence-eos-eot-inf --cache
                --fold --prefill-chunk --expert-cap --pack-cache --precision --kv-type --device --threads --mask-token --watch --delay --columns --json
                --print-ids --trace --svg --verbose" ;;
            logits) options="$common --ids --block --expert-cap --pack-cache --precision --kv-type --device --threads --mask-token -o --output
                --verbose" ;;
            tokenize) options="$common -p --prompt --file --jsonl --chat --tools --render --decode" ;;
            inspect) options="$common --kv-type --mask-token --json --policies --context" ;;
            score) options="$common -p --prompt --ids --answer --answer-ids --choices --jsonl --template
                --samples --seed --block --cfg --expert-cap --pack-cache --precision --kv-type --device --threads --mask-token --json
                --masks --verbose" ;;
            bench) options="$common --context --expert-cap --pack-cache --precision --kv-type --device --threads --json --synthetic -t
                --type --layers --rows --prefill --repeat --tokens-per-forward --csv --plot --verbose" ;;
            quantize) options="$common -t --type -o --output --imatrix --pure --force --threads --mask-token --json
                --verbose" ;;
            serve) options="$common --synthetic -t --type --layers --expert-cap --pack-cache --precision --kv-type --device --threads --mask-token
                --max-step-ms --prefix-cache --host --port --served-model-name --api-key --tls-cert --tls-key --cache-tokens --max-queue --max-connections
                --max-body-bytes --timeout --log --config --verbose" ;;
            help) options='run logits tokenize inspect score bench quantize serve' ;;
        esac
    fi
    mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
}

complete -o bashdefault -F _unmask unmask
