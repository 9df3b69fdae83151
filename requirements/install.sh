#!/bin/sh
# Put the locked packages of requirements/$1.txt into .venv; do nothing when they are there already.
# Reads PYTHON (an interpreter; else the first on the PATH that is new enough) and UV (a uv command; empty means venv + pip).
set -eu

lock=requirements/$1.txt
python=.venv/bin/python
log=.venv/install.log

fail() {
    echo "$*" >&2
    exit 1
}

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

version_of() {
    "$1" -c 'import sys; print(*sys.version_info[:2])'
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        is_new_enough "$PYTHON" || fail "Python 3.11 or newer is needed, and $PYTHON is none that runs."
        echo "$PYTHON"
        return
    fi
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if is_new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "Python 3.11 or newer is needed: install one, or name it, as in 'make PYTHON=/path/to/python3 run'."
}

# A folder left by an interrupted run, an interpreter that is gone, another Python asked for: all begin anew.
venv_is_usable() {
    is_new_enough "$python" || return 1
    [ -n "${UV:-}" ] || "$python" -c 'import pip' 2>/dev/null || return 1
    [ -z "${PYTHON:-}" ] || [ "$(version_of "$python")" = "$(version_of "$PYTHON")" ]
}

make_venv() {
    interpreter=$(find_python)
    rm -rf .venv
    if [ -n "${UV:-}" ]; then
        "$UV" venv --quiet --python "$interpreter" .venv
        return
    fi
    "$interpreter" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$interpreter cannot make virtual environments: install python3-venv (as in 'apt-get install python3-venv'), or uv."
    "$interpreter" -m venv .venv
}

# The copy of the lock beside what it installed is the stamp. The test set holds the worker set, which holds the
# production set, which holds the run set, at the same versions.
is_installed() {
    case $1 in
        run) sets="run production worker test" ;;
        production) sets="production worker test" ;;
        worker) sets="worker test" ;;
        *) sets=$1 ;;
    esac
    for set in $sets; do
        if cmp -s "requirements/$set.txt" ".venv/installed-$set.txt"; then
            return 0
        fi
    done
    return 1
}

install_packages() {
    if [ -n "${UV:-}" ]; then
        # pip compiles what it installs. With uv the first start does, unless it must not keep what it compiled.
        "$UV" pip install ${PYTHONDONTWRITEBYTECODE:+--compile-bytecode} --python "$python" --require-hashes \
            --requirement "$lock"
    else
        "$python" -m pip install --disable-pip-version-check --no-input --progress-bar off --require-hashes \
            --requirement "$lock"
    fi
}

# What pip has logged so far; uv logs at the end. Some packages of a lock may be for other systems.
progress() {
    if [ -n "${UV:-}" ]; then
        echo "working"
    elif grep -q '^Installing collected' "$log"; then
        echo "unpacking"
    else
        echo "$(grep -c -e '^Collecting' -e '^Requirement already' "$log") of $(grep -c '^[a-z].*==' "$lock") packages read"
    fi
}

# In the background, on one line of a terminal, else now and then. It ends by itself when this process is gone, since an
# interrupted shell stops nothing.
show_progress() {
    seconds=0
    while sleep 1 >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do
        seconds=$((seconds + 1))
        if [ -t 1 ]; then
            printf '\r  %s s, %s    ' "$seconds" "$(progress)"
        elif [ $((seconds % 15)) = 0 ]; then
            echo "  $seconds s, $(progress)"
        fi
    done
}

[ -z "${PYTHON:-}" ] || is_new_enough "$PYTHON" || fail "Python 3.11 or newer is needed, and $PYTHON is none that runs."
usable=
venv_is_usable && usable=yes
[ -n "$usable" ] && is_installed "$1" && exit 0

echo "Installing $lock into .venv${UV:+ with uv} ..."
[ -n "$usable" ] || make_venv
# An install that fails half-way leaves versions that are in no lock. These two add to a set, and change no version of it.
case $1 in
    fast | clients) rm -f ".venv/installed-$1.txt" ;;
    *) rm -f .venv/installed-*.txt ;;
esac

# The installers' warnings and notices are for the log; whether it is wanted shows at the end.
: >"$log"
show_progress &
shower=$!
status=0
install_packages >"$log" 2>&1 || status=$?
kill "$shower" 2>/dev/null || true
wait "$shower" 2>/dev/null || true
[ ! -t 1 ] || printf '\r                                        \r'

if [ "$status" != 0 ]; then
    echo "Installing $lock failed. $log ends with:" >&2
    grep -v '^WARNING: ' "$log" | tail -n 20 >&2
    exit 1
fi
cp "$lock" ".venv/installed-$1.txt"
