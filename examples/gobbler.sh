#!/usr/bin/env bash
# A complete client of gobblerd in bash and coreutils. Copy it, change it, call it:
#
#   gobbler.sh request ACTION [FILE]                       ask for an action; its JSON document is read
#                                                          from FILE or standard input
#   gobbler.sh upload DIRECTORY PROJECT ASSET VERSION      make a new version of a directory
#
# GOBBLER_STAGING  the staging directory that gobblerd watches (required)
# GOBBLER_TIMEOUT  seconds to wait for the answer (default 600)
#
# Prints the response. Exit code: 0 done, 1 refused, 2 wrong usage, 3 no staging directory,
# 4 not answered in time (the request stays, and is answered when the daemon gets to it).
set -euo pipefail
umask 022                                      # the daemon must be able to read what we write

fail() { printf 'gobbler.sh: %s\n' "$2" >&2; exit "$1"; }

quote() {                                      # quote TEXT: TEXT as a JSON string
  local text=${1//\\/\\\\}
  printf '"%s"' "${text//\"/\\\"}"
}

withdraw() {                                   # a request that has not begun by now is never executed
  rm -f -- "$temporary" "${request:+$staging/$request}"
  [ -z "$copy" ] || rm -rf -- "$copy"
}

drop() {                                       # drop ACTION < DOCUMENT: write, then rename; sets $request
  temporary=$(mktemp "$staging/new-XXXXXXXXXXXX") || fail 3 "cannot write into $staging"
  cat > "$temporary"
  chmod 644 "$temporary"                       # mktemp makes 0600
  request=request-$1-${temporary##*/new-}
  mv -T -- "$temporary" "$staging/$request"
}

wait_for() {                                   # wait_for REQUEST: wait for its response, print it
  local answer=$staging/responses/$1 milliseconds=20 pause response
  local deadline=$((SECONDS + ${GOBBLER_TIMEOUT:-600}))
  until [ -e "$answer" ]; do
    if ((SECONDS >= deadline)); then
      copy='' request=''                       # whoever answers later will need them
      fail 4 "no answer to $1 yet: is gobblerd running and watching $staging?
It will be in $answer"
    fi
    printf -v pause '%d.%03d' $((milliseconds / 1000)) $((milliseconds % 1000))
    sleep "$pause"
    ((milliseconds = milliseconds < 2000 ? milliseconds * 3 / 2 : 2000))
    { :; } < "$staging/responses" || true      # opening the directory makes NFS look again
  done
  response=$(cat -- "$answer")
  printf '%s\n' "$response"
  [[ $response =~ ^\{[[:space:]]*\"status\":[[:space:]]*\"SUCCESS\" ]]
}

upload() {                                     # upload DIRECTORY PROJECT ASSET VERSION
  [ -d "$1" ] || fail 2 "$1 is not a directory"
  copy=$(mktemp -d "$staging/upload-XXXXXXXXXXXX") || fail 3 "cannot write into $staging"
  # Symbolic links and empty directories stay what they are.
  cp -RP -- "$1/." "$copy/" || fail 2 "cannot copy $1"
  chmod -R u+w,a+rX "$copy"
  drop upload <<< "{\"source\": $(quote "${copy##*/}"), \"project\": $(quote "$2"),
                    \"asset\": $(quote "$3"), \"version\": $(quote "$4")}"
}

staging=${GOBBLER_STAGING-}
[ -n "$staging" ] || fail 3 'set GOBBLER_STAGING to the staging directory that gobblerd watches'
[ -d "$staging/responses" ] || fail 3 "$staging is not the staging directory of a gobblerd"
temporary='' request='' copy=''
trap withdraw EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

case "${1-} $#" in
  'request 2') drop "$2" ;;
  'request 3')
    [ -r "$3" ] || fail 2 "cannot read $3"
    drop "$2" < "$3"
    ;;
  'upload 5') upload "${@:2}" ;;
  *) fail 2 'usage: gobbler.sh request ACTION [FILE] | gobbler.sh upload DIRECTORY PROJECT ASSET VERSION' ;;
esac
wait_for "$request" || exit 1
