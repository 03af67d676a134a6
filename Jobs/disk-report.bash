set -euo pipefail
export LC_ALL=C

directory=${PARAM_DIRECTORY:-/var}
largest=${PARAM_LARGEST:-10}
full_percent=${PARAM_FULL_PERCENT:-100}

# A text as a JSON string.
quoted() {
    local text=$1 character code result=
    local -i index
    for ((index = 0; index < ${#text}; index++)); do
        character=${text:index:1}
        case $character in
            [\"\\]) result+="\\$character" ;;
            [[:cntrl:]])
                printf -v code '\\u%04x' "'$character"
                result+=$code
                ;;
            *) result+=$character ;;
        esac
    done
    printf '"%s"' "$result"
}

if [[ ! -d $directory ]]; then
    echo "there is no directory $directory" >&2
    exit 2
fi

status=0
separator=
printf '{"fileSystems": ['
while read -r source type size used available space inodes target; do
    space=${space%\%}
    inodes=${inodes%\%}
    [[ $space == - ]] && space=0
    [[ $inodes == - ]] && inodes=0
    printf '%s\n  {"mount": %s, "source": %s, "type": %s, "sizeBytes": %s, "usedBytes": %s, ' \
        "$separator" "$(quoted "$target")" "$(quoted "$source")" "$(quoted "$type")" "$size" "$used"
    printf '"availableBytes": %s, "usedPercent": %s, "inodesUsedPercent": %s}' "$available" "$space" "$inodes"
    separator=,
    if ((full_percent < 100 && (space >= full_percent || inodes >= full_percent))); then
        echo "$target is fuller than $full_percent percent (space $space, inodes $inodes)" >&2
        status=1
    fi
done < <(
    df --local --block-size=1 --output=source,fstype,size,used,avail,pcent,ipcent,target \
        --exclude-type=tmpfs --exclude-type=devtmpfs --exclude-type=squashfs 2>/dev/null | tail -n +2
)

# Only this file system, three levels deep, and no longer than a part of the time limit: a report with
# fewer directories is better than none.
printf '],\n"directory": %s,\n"largestDirectories": [' "$(quoted "$directory")"
separator=
while IFS=$'\t' read -r -d '' bytes path; do
    printf '%s\n  {"path": %s, "bytes": %s}' "$separator" "$(quoted "$path")" "$bytes"
    separator=,
done < <(
    { timeout 60 du --null --one-file-system --max-depth=3 --block-size=1 -- "$directory" || true; } \
        2>/dev/null |
        sort --zero-terminated --numeric-sort --reverse | head --zero-terminated --lines="$largest"
)
printf ']}\n'
exit "$status"
