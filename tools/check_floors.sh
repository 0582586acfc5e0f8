#!/usr/bin/env bash
# Reads every #include of the source tree and fails where a file includes a header of a higher floor,
# or of another room on its own floor. The floors are those of docs/architecture.md. Also fails on a
# file of more than 1,500 lines and on file names that occur twice.
set -euo pipefail
cd "$(dirname "$0")/.."

declare -A floor=(
    [base]=0 [quant]=1 [text]=1 [decode]=1 [formats]=2 [kernels]=2 [cache]=3 [cluster]=3
    [models]=4 [engine]=5 [server]=6 [audit]=6 [programs]=7)
# Rooms that a room may not see although they are lower.
declare -A barred=([models]="text decode" [formats]="text decode" [kernels]="text decode"
    [cache]="text decode formats" [cluster]="text decode formats" [server]="*" [programs]="*")
# What rooms with "*" may see all the same.
declare -A granted=([server]="base" [programs]="base server audit")
# unmask.h holds the status codes of floor 0, the interface of policies and that of floor 5.
public_readers="base decode models engine server audit programs"

n_files=0
n_errors=0
complain() {
    echo "check_floors: $1" >&2
    n_errors=$((n_errors + 1))
}

while IFS= read -r file; do
    n_files=$((n_files + 1))
    case "$file" in
        programs/*) room=programs ;;
        *) room=${file#src/} && room=${room%%/*} ;;
    esac
    if [ -z "${floor[$room]:-}" ]; then
        complain "$file: the room $room is on no floor"
        continue
    fi
    n_lines=$(wc -l < "$file")
    [ "$n_lines" -le 1500 ] || complain "$file: $n_lines lines; the wall is at 1500"
    while IFS= read -r header; do
        if [ "$header" = unmask.h ]; then
            case " $public_readers " in
                *" $room "*) ;;
                *) complain "$file includes unmask.h; its room may not" ;;
            esac
            continue
        fi
        target=${header%%/*}
        [ "$target" = "$room" ] && continue
        if [ "$target" = "$header" ] || [ -z "${floor[$target]:-}" ]; then
            complain "$file includes \"$header\", which is in no room"
        elif [ "${floor[$target]}" -ge "${floor[$room]}" ]; then
            complain "$file (floor ${floor[$room]}) includes \"$header\" (floor ${floor[$target]})"
        else
            case " ${barred[$room]:-} " in
                *" $target "*) complain "$file includes \"$header\"; $room may not see $target" ;;
                *" * "*)
                    case " ${granted[$room]} " in
                        *" $target "*) ;;
                        *) complain "$file includes \"$header\"; $room may not see $target" ;;
                    esac
                    ;;
            esac
        fi
    done < <(sed -n 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*"\([^"]*\)".*/\1/p' "$file")
done < <(find src programs -name '*.c' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' | sort)

while IFS= read -r name; do
    complain "the file name $name occurs more than once"
done < <(find src programs include \( -name '*.c' -o -name '*.h' \) -printf '%f\n' | sort | uniq -d)

for room in src/*/; do
    [ -f "${room}README.md" ] && continue
    complain "${room} has no README.md"
done
while IFS= read -r readme; do
    n_lines=$(wc -l < "$readme")
    [ "$n_lines" -le 20 ] || complain "$readme: $n_lines lines; at most 20"
done < <(find src programs -name README.md)

echo "check_floors: $n_files files, $n_errors errors"
[ "$n_errors" -eq 0 ]
