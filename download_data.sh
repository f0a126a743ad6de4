#!/bin/sh
# Download the contest's labels and frames to the folders in definitions.py; see --help.
set -eu
export LC_ALL=C # bytes, not characters, in names

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
list=$here/data/urls.txt
into=$here/data/INPUT_DATA
base=https://boosters.pro/api/ch/files/pub
python=${PYTHON:-python3}
attempts=5            # that fail in a row without a new byte
damaged=3 disk_full=4 # exit statuses of tools/unpack.py

usage() {
    cat <<END
Usage: ./download_data.sh [options]

Downloads the files in data/urls.txt: labels to data/INPUT_DATA, archives to its folder ZIP. Checks the archives and
unpacks their frames to its folder TRAIN_DATA. Run it again after an interruption: it resumes. Existing files are never
replaced. Needs curl, Python 3.8 or newer, and about 90 GB for everything (half of it with --delete-archives).

  --base URL          base address of the files (default: $base)
  --into DIR          target folder instead of data/INPUT_DATA
  --only NAME[,NAME]  these files only; may be repeated
  --delete-archives   delete each archive after its frames are unpacked
  --help              show this help

The environment variable PYTHON sets the interpreter (default: python3). Delete ZIP/NAME.unpacked to unpack an archive
again. The exit status is 0 if every file is complete, checked and unpacked.
END
}

say() { printf '%s\n' "$*"; }
warn() { say "$@" >&2; }
die() { warn "$@"; exit 1; }
size_of() { if [ -f "$1" ]; then wc -c <"$1"; else echo 0; fi; }
is_zip() { case $name in *.[zZ][iI][pP]) ;; *) return 1 ;; esac; }

read_list() { # print name, address and sha256 of the wanted files
    while read -r name sha256 rest || [ -n "$name" ]; do
        case $name in
            '' | '#'*) continue ;;
            http://*/* | https://*/*) url=$name name=${name%%[?#]*} name=${name##*/} ;;
            *) url=$base/$name ;;
        esac
        case $name in '' | .* | *[!A-Za-z0-9._~-]* | ZIP | JSON | TRAIN_DATA) rest=invalid ;; esac
        case $sha256 in *[!0-9a-f]*) rest=invalid ;; esac
        case ${#sha256}$rest in 0 | 64) ;; *) die "$list: not a line of NAME or URL, and optionally its sha256: $name" ;; esac
        case ,${only:-$name}, in *,"$name",*) say "$name $url ${sha256:--}" ;; esac
    done <"$list"
}

is_unpacked() { # the stamp exists, and every folder that it lists
    [ -f "$stamp" ] || return 1
    while IFS= read -r folder; do [ -e "$into/TRAIN_DATA/$folder" ] || return 1; done <"$stamp"
}

download() { # $url to $part
    is_zip || rm -f "$part" # small files are not resumed: nothing would detect a wrong start
    longest=$(size_of "$part")
    say "$name: downloading from $url"
    while :; do
        code=0
        status=$(curl "$output" --fail --location --globoff --proto '=http,https' --continue-at - --output "$part" \
            --connect-timeout 30 --speed-limit 1 --speed-time 30 --write-out '%{http_code}' "$url") || code=$?
        case $code-$status in
            0-* | 22-416) failures=0; return 0 ;; # 416: the part has every byte, or too many
            22-408 | 22-425 | 22-429 | 22-5??) ;;
            22-*) warn "$name: HTTP $status from $url; if the site is gone, set another address with --base"; return 1 ;;
            23-*) die "$part: cannot be written. Free some space and run this again: it resumes" ;;
            33-*) rm -f "$part" ;; # the server cannot resume
        esac
        if [ "$(size_of "$part")" -gt "$longest" ]; then failures=0 longest=$(size_of "$part"); fi
        failures=$((failures + 1)) # counts across files: without a connection, the others are tried once
        [ "$failures" -lt "$attempts" ] || { warn "$name: no progress, giving up"; return 1; }
        warn "$name: trying again in $((1 << (failures - 1))) s"
        sleep $((1 << (failures - 1)))
    done
}

check() { # and delete $part if it is not the file
    code=0
    if [ "$sha256" != - ] && [ "$(sha256sum <"$part" | cut -c 1-64)" != "$sha256" ]; then
        warn "$name: the sha256 is not $sha256" && code=$damaged
    elif is_zip; then
        "$python" "$here/tools/unpack.py" "$part" || code=$?
    elif [ "$(head -c 99 "$part" | tr -d '[:space:]' | head -c 1)" = '<' ]; then
        warn "$name: this is a web page" && code=$damaged
    fi
    [ "$code" != "$damaged" ] || { rm -f "$part" && warn "$name: the download was deleted; run this again"; }
    return "$code"
}

unpack() {
    code=0
    "$python" "$here/tools/unpack.py" "$target" "$into/TRAIN_DATA" >"$stamp.part" || code=$?
    # The stamp gets its name when the frames are on the disk.
    if [ "$code" = 0 ]; then sync && mv -f "$stamp.part" "$stamp" && say "$name: unpacked" && return; fi
    rm -f "$stamp.part"
    [ "$code" != "$disk_full" ] || die "$into: the disk is full. Free some space and run this again: it resumes"
    [ "$code" != "$damaged" ] || warn "$name: to download it again, delete $target"
    return 1
}

provide() { # one file: download, check and unpack what is missing
    if [ ! -e "$target" ]; then
        download && check && sync && mv -n "$part" "$target" || return 1
    fi
    ! is_zip || unpack
}

only='' delete=no failures=0 missing=''
while [ $# -gt 0 ]; do
    case $1 in
        --*=*) value=${1#*=} option=${1%%=*} && shift && set -- "$option" "$value" "$@" ;;
        --base | --into | --only)
            [ -n "${2:-}" ] || die "$1 needs a value; see --help"
            case $1 in --base) base=${2%/} ;; --into) into=$2 ;; --only) only=$only,$2 ;; esac
            shift 2 ;;
        --delete-archives) delete=yes && shift ;;
        -h | --help) usage && exit ;;
        *) die "$1 is not an option; see --help" ;;
    esac
done
case $base in http://?* | https://?*) ;; *) die "--base $base is not an http or https address" ;; esac
files=$(read_list)
unknown=$(say "$only" | tr , '\n' | grep -vxF -e '' -e "$(say "$files" | cut -d ' ' -f 1)" | tr '\n' ' ')
[ -n "$files" ] && [ -z "$unknown" ] || die "$list does not list ${unknown:-any file}"
command -v curl >/dev/null || die "curl is not installed"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 8))' || die "$python is not Python 3.8 or newer; set PYTHON"

mkdir -p "$into/ZIP" "$into/TRAIN_DATA" "$into/JSON"
exec 9>"$into/.download.lock" # the system frees it when the last process ends, even after kill -9
! command -v flock >/dev/null || flock -n 9 || die "$into: another download_data.sh is running"
trap 'warn "interrupted; run this again to resume"; exit 130' HUP INT TERM
if [ -t 2 ]; then output='-#'; else output=-sS; fi # a progress bar, or errors only
while read -r name url sha256; do
    target=$into/$name
    if is_zip; then target=$into/ZIP/$name; fi
    part=$target.part stamp=$target.unpacked
    is_unpacked || provide </dev/null || missing="$missing $name"
    if is_unpacked && [ "$delete" = yes ]; then rm -f "$target"; fi
done <<END
$files
END
[ -z "$missing" ] || die "missing:$missing; see the messages above, and run this again to resume"
say "$into: every file is complete"
