#!/bin/sh
# Brings the contest's labels and frames to where definitions.py looks for them; --help says how. Whenever it ends, and
# however, it can be run again: what is done stays, what was begun goes on. A file has its name once it is whole.
# shellcheck disable=SC2012,SC2030,SC2031 # no portable program but ls tells a size; a loop in a pipe has its own name
set -eu
export LC_ALL=C # a name is bytes

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
list=$here/data/urls.txt
into=$here/data/INPUT_DATA
base=${DETECTIME_BASE:-https://boosters.pro/api/ch/files/pub}
patience=${DETECTIME_PATIENCE:-30}
python=${PYTHON:-python3}
attempts=5            # in a row that bring nothing
usual_size=5000000000 # of an archive: in 2021 the nine and their frames took about 90 GB
accepted='--base URL, --into DIR, --only NAME, --delete-archives, --list, --help'
tab=$(printf '\t')

usage() {
    cat <<END
Usage: ./download_data.sh [options]

Downloads what data/urls.txt lists, labels to data/INPUT_DATA, archives to ZIP/ there, and unpacks the frames to
TRAIN_DATA/. All takes about 90 GB. Run it again to go on after an interruption. It needs curl or wget, and Python 3.8.

  --base URL          where the files lie ($base), or the variable DETECTIME_BASE
  --into DIR          instead of data/INPUT_DATA
  --only NAME[,NAME]  these files alone; may be repeated
  --delete-archives   delete each archive once its frames are unpacked
  --list              say what would be fetched and what is there, and do nothing
  --help              say this

DETECTIME_PATIENCE is after how many seconds without a byte a connection is given up ($patience), PYTHON the Python.
Delete ZIP/NAME.unpacked to have an archive unpacked anew. Status 0: all that was asked for is there, checked, unpacked.
END
}

say() { printf '%s' "$*" | tr -d '\000-\037\177' && echo; } # nothing that a terminal would obey
complain() { say "$@" >&2; }
die() { complain "$@"; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }
is_zip() { case $name in *.[zZ][iI][pP]) ;; *) return 1 ;; esac; }
bytes_of() { if [ -f "$1" ]; then ls -lnL "$1" | awk '{ print $5; exit }'; else echo 0; fi; }
room() { df -Pk "$into" | sed -n '2s/.* \([0-9][0-9]*\)  *[0-9][0-9]*% .*/\1/p' | awk '{ printf "%.0f", $1 * 1024 }'; }
in_words() { # bytes
    awk -v n="$1" -v CONVFMT=%.1f 'BEGIN { print (n == "-" ? "unknown" : n < 1e8 ? n / 1e6 " MB" : n / 1e9 " GB") }'
}
sha256_of() { if has sha256sum; then sha256sum; else shasum -a 256; fi <"$1" | cut -c 1-64; }

read_list() { # prints name, address, size and sha256 of each file that is asked for, with tabs between
    sed -E -e 's/[[:cntrl:]]+/ /g' -e 's/(^| )#.*//' -e 's/^ +//' -e 's/ +$//' -e '/^$/d' \
        -e "s/^(.*[^ ]) +(-|0|[1-9][0-9]*) +(-|[0-9a-f]{64})\$/\\1$tab\\2$tab\\3/" -e t \
        -e "s/^([^ ]+) +(-|0|[1-9][0-9]*)\$/\\1$tab\\2$tab-/" -e t \
        -e "s/^[^ ]+\$/&$tab-$tab-/" -e t -e 's|^|/|' "$list" |
        while IFS=$tab read -r name size sha256 || [ -n "$name" ]; do # the last line may lack its end
            case $name in
                http://*/* | https://*/*) url=$name name=${name%%[?#]*} && name=${name##*/} ;;
                *[!A-Za-z0-9._~-]*) url=$base/$(printf %s "$name" | od -An -v -tx1 | tr -d ' \n' | sed 's/../%&/g') ;;
                *) url=$base/$name ;;
            esac
            case $name in '' | .* | */* | ZIP | JSON | TRAIN_DATA)
                die "$list: this is no line of a name or an address, its size or -, its sha256 or -: ${name#/}" ;;
            esac
            case ${only:-,"$name"}, in *,"$name",*) printf '%s\t' "$name" "$url" "$size" && echo "$sha256" ;; esac
        done
}

locate() { # sets where the file $name belongs
    target=$into/$name stamp=
    if is_zip; then target=$into/ZIP/$name stamp=$into/ZIP/$name.unpacked; fi
    part=$target.part
}

is_unpacked() { # the stamp is there, and all that it names
    [ -f "$stamp" ] || return 1
    while IFS= read -r folder; do [ -e "$into/TRAIN_DATA/$folder" ] || return 1; done <"$stamp"
}

show() { # what is there of the file
    state='to be fetched'
    if [ -f "$part" ]; then state="begun, $(in_words "$(bytes_of "$part")")"; fi
    if [ -f "$target" ]; then state=there; if is_zip; then state='to be unpacked'; fi; fi
    if is_unpacked; then state=unpacked; fi
    say "$name: $state (size $(in_words "$size"), $url)"
}

runs() { # process $1 is there, with $2 in its command line: the number of a dead one is given to others
    [ -n "$1" ] && [ -n "$2" ] && { cat "/proc/$1/cmdline" || ps -p "$1" -o args=; } 2>/dev/null |
        tr '\000' ' ' | grep -qF -e "$2"
}

lock() { # one at a time; who is killed with -9 leaves the lock, and perhaps a transfer that still writes
    lock=$into/.lock answer=$into/.lock/answer child=
    if ! mkdir "$lock" 2>/dev/null; then
        [ -d "$lock" ] || die "$into cannot be written"
        [ -s "$lock/pid" ] || sleep 1 # it may be about to be written
        owner=$(cat "$lock/pid" 2>/dev/null) || owner=
        if { [ "$owner" != $$ ] && runs "$owner" "${0##*/}"; } || ! mkdir "$lock/heir" 2>/dev/null ||
            [ "$owner" != "$(cat "$lock/pid" 2>/dev/null)" ]; then # of several heirs one gets it
            die "$into: another instance is at work, process ${owner:-unknown}; if that is not so, delete $lock"
        fi
        orphan='' errand=''
        if [ -f "$lock/child" ]; then { read -r orphan && IFS= read -r errand; } <"$lock/child" || :; fi
        while runs "$orphan" "$errand"; do kill -9 "$orphan" || break; sleep 1; done
    fi
    echo $$ >"$lock/pid"
    rm -rf "$lock/heir"
    trap 'rm -rf "$lock"' EXIT
    trap 'trap "" HUP INT TERM; [ -z "$child" ] || { kill "$child"; wait "$child"; } 2>/dev/null || :
        complain "interrupted; run it again, and it goes on"; exit 130' HUP INT TERM
}

run() { # a command that ends with this script, or is ended by the next
    "$@" </dev/null &
    child=$! ended=0
    shift # a program may be started by another
    printf '%s\n' "$child" "$*" >"$lock/child"
    wait "$child" || ended=$?
    child=
    return "$ended"
}

read_answer() { # sets the last answer's status, 000 without one, and the size of the whole file, - if that is not told
    # shellcheck disable=SC2046 # two words
    set -- $(tr -d '\r' <"$answer" | awk '
        tolower($1) ~ /^http\/[0-9.]+$/ { status = $2; size = "" }
        tolower($1) == "content-length:" && status == 200 { size = $2 }
        tolower($1) == "content-range:" { size = $NF; sub(".*/", "", size) }
        END { print (status ~ /^[1-5][0-9][0-9]$/ ? status : "000"), (size ~ /^(0|[1-9][0-9]*)$/ ? size : "-") }')
    status=$1 whole=$2
}

ask_size() { # sets $bytes to the size that the server tells, - if it does not, 0 if the file is gone
    : >"$answer"
    # shellcheck disable=SC2086 # several options
    case $tool in
        curl) curl -sIL --globoff --connect-timeout "$patience" --max-time "$patience" "$url" >"$answer" || : ;;
        wget) wget $wget_options --spider -S -o "$answer" "$url" || : ;;
    esac
    read_answer
    case $status in 404 | 410) bytes=0 ;; 000) bytes=- asking=no ;; *) bytes=$whole ;; esac # nobody there: ask no more
}

make_sure_of_space() { # and of the programs
    lasting=0 passing=0 unknown=0 asking=yes
    while IFS=$tab read -r name url size sha256; do
        locate
        if is_unpacked; then continue; fi
        ! is_zip || "$python" -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null ||
            die "archives want Python 3.8 or newer, and $python is none: install it, or name one in the variable PYTHON"
        if [ -f "$target" ]; then continue; fi # what its frames still need, unpack.py knows
        [ -n "$tool" ] || die "neither curl nor wget is here: install one of them"
        bytes=$size
        if [ "$bytes" = - ] && [ "$asking" = yes ]; then ask_size; fi
        if [ "$bytes" = - ]; then bytes=0; if is_zip; then bytes=$usual_size unknown=$((unknown + 1)); fi; fi
        there=$(bytes_of "$part")
        lacking=$((bytes > there ? bytes - there : 0))
        if is_zip; then lasting=$((lasting + bytes)); fi # its frames: pictures are as large as their archive
        if is_zip && [ "$delete" = yes ]; then # one archive at a time
            passing=$((lacking > passing ? lacking : passing)) && continue
        fi
        lasting=$((lasting + lacking))
    done <<END
$files
END
    needed=$((lasting + passing)) free=$(room) && free=${free:--}
    [ "$needed" -gt 0 ] || return 0
    say "$into: $(in_words "$needed") are needed for archives and frames, $(in_words "$free") are free"
    [ "$unknown" = 0 ] || say "(sizes not known: $unknown; $(in_words "$usual_size") are taken for an archive, and" \
        "as much for its frames, for in 2021 all took about 90 GB)"
    [ "$free" = - ] || [ "$free" -ge "$needed" ] || die "too little: --delete-archives needs less, --only NAME brings" \
        "some of the files, --into DIR takes another disk"
}

fetch() { # all of $url into $part, however often the connection is cut
    failures=0 furthest=0
    say "$name: downloading from $url"
    while :; do
        have=$(bytes_of "$part")
        : >"$answer"
        # shellcheck disable=SC2086 # several options
        case $tool in
            curl) run curl $curl_bar --fail -L --globoff --proto '=http,https' -C "$have" -o "$part" -D "$answer" \
                --connect-timeout "$patience" --speed-limit 1 --speed-time "$patience" "$url" || : ;;
            wget) run wget $wget_options -c -S -O "$part" -o "$answer" "$url" || : ;;
        esac
        read_answer
        now=$(bytes_of "$part")
        case $tool$ended$(cat "$answer") in curl23* | wget3* | *'No space left'*)
            complain "$part cannot be written, $(in_words "$(room)") are free: the disk is full"
            full=yes
            return 1 ;;
        esac
        case $status in
            200 | 206)
                if [ "$now" = "$whole" ] || [ "$whole$ended" = -0 ]; then return 0; fi
                reason="the connection ended after $now of $whole bytes"
                # A server that cannot go on in the middle (curl calls that 33) is asked from the start.
                case $have-$status-$ended in 0-*) ;; *-200-0 | *-200-33) rm -f "$part"; continue ;; esac ;;
            416)
                if [ "$now" = "$whole" ]; then return 0; fi
                reason="what lay there is no part of the file" now=0
                rm -f "$part" ;;
            000 | 3??) reason="no answer" ;;
            408 | 425 | 429 | 5??) reason="HTTP $status" ;;
            404 | 410)
                complain "$name: HTTP $status from $url: the contest's pages may be gone; if the files lie elsewhere," \
                    "name the address with --base URL"
                return 1 ;;
            *) complain "$name: HTTP $status from $url"; return 1 ;;
        esac
        if [ "$now" -gt "$furthest" ]; then failures=0 furthest=$now; fi
        failures=$((failures + 1))
        if [ "$failures" -ge "$attempts" ] || [ "$status$nobody" = 000yes ]; then
            [ "$status" != 000 ] || nobody=yes # the others are tried once
            complain "$name: $reason; given up"
            return 1
        fi
        complain "$name: $reason; trying again in $((1 << (failures - 1))) s"
        sleep $((1 << (failures - 1)))
    done
}

is_sound() { # file $1 is what the list and its name say
    found=$(bytes_of "$1")
    case $size in - | "$found") ;; *) complain "$name: it has $found bytes instead of $size"; return 1 ;; esac
    found=$(if [ "$sha256" = - ]; then echo -; else sha256_of "$1"; fi)
    [ "$found" = "$sha256" ] || { complain "$name: its sha256 is $found instead of $sha256"; return 1; }
    if is_zip; then run "$python" "$here/tools/unpack.py" "$1" || [ "$ended" != 3 ]; return; fi
    case $(head -c 99 "$1" | tr -cd '!-~') in '<'*) complain "$name: this is a page and not the file"; return 1 ;; esac
}

bring() { # the file: fetched, checked and unpacked; what is broken once anew
    for anew in no yes; do
        if [ "$anew" = yes ] || [ ! -f "$target" ] || ! is_sound "$target"; then
            fetch || return 1
            is_sound "$part" || { rm -f "$part"; continue; }
            { sync && mv -f "$part" "$target"; } || return 1
        fi
        if ! is_zip; then return 0; fi
        # The stamp names what lies in TRAIN_DATA now, once that is on the disk.
        if run "$python" "$here/tools/unpack.py" "$target" "$into/TRAIN_DATA" >"$lock/stamp"; then
            sync && mv -f "$lock/stamp" "$stamp" && say "$name: unpacked"
            return
        fi
        case $ended in 3) ;; 4) full=yes; return 1 ;; *) return 1 ;; esac
    done
    return 1
}

only='' delete=no listing=no
while [ $# -gt 0 ]; do
    case $1 in
        --*=*) value=${1#*=} option=${1%%=*} && shift && set -- "$option" "$value" "$@" ;;
        --base | --into | --only)
            [ -n "${2:-}" ] || die "$1 wants a value; accepted: $accepted"
            case $1 in --base) base=$2 ;; --into) into=$2 ;; --only) only=$only,$2 ;; esac
            shift 2 ;;
        --delete-archives) delete=yes && shift ;;
        --list) listing=yes && shift ;;
        -h | --help) usage && exit ;;
        *) die "$1 is no option; accepted: $accepted" ;;
    esac
done
case $base in http://?* | https://?*) base=${base%/} ;; *) die "$base is no http address; name one with --base" ;; esac
case $patience in *[!0-9]*) die "DETECTIME_PATIENCE=$patience is no number of seconds" ;; esac
case $into in /*) into=${into%/} ;; *) into=$PWD/${into%/} ;; esac
files=$(read_list)
strange=$(printf %s "$only" | tr , '\n' | grep -vxF -e '' -e "$(printf '%s\n' "$files" | cut -f 1)" | tr '\n' ' ')
[ -n "$files" ] && [ -z "$strange" ] || die "$list does not list ${strange:-anything}"

tool='' curl_bar=-sS wget_options=-q # busybox waits 900 s for a byte, and its -T crashes on Debian 12
if has curl; then tool=curl; elif has wget; then tool=wget; fi
case $(wget --version 2>/dev/null) in *GNU*) wget_options="-nv -t 1 -T $patience --no-http-keep-alive" ;; esac
if [ -t 2 ]; then curl_bar=--progress-bar wget_options=$(echo "$wget_options" | sed 's/^-nv/& --show-progress/'); fi

if [ "$listing" = yes ]; then
    printf '%s\n' "$files" | while IFS=$tab read -r name url size sha256; do locate && show; done && exit
fi
mkdir -p "$into/ZIP" "$into/TRAIN_DATA" "$into/JSON"
lock
make_sure_of_space
full=no nobody=no missing=''
while IFS=$tab read -r name url size sha256; do
    locate
    if is_unpacked || { [ "$full" = no ] && bring; }; then
        if is_zip && [ "$delete" = yes ]; then rm -f "$target"; fi
    else
        missing="$missing, $name"
    fi
done <<END
$files
END
[ -z "$missing" ] || die "missing: ${missing#, }; see above for the reasons, and run this again: it goes on from here"
say "$into: all is there"
