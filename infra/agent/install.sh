#!/bin/sh
# Installs certcast's agent as a systemd service, brings it up to date, takes it back a version, or removes it.
#
# What is installed is the wheel with the given SHA-256, and the versions and hashes in the requirements file with the
# given one; nothing is looked up under a name alone. Each version has a folder of its own below /opt/certcast/versions,
# and `current` is a link that is switched in one step. A version that does not become ready, where the one before it
# was, gives its place back. Settings stand in /etc/certcast/agent.env, which is kept; nothing secret is an argument.
set -eu
umask 022

usage() {
    cat <<'END'
usage: install.sh --wheel FILE|URL --wheel-sha256 HEX --requirements FILE|URL --requirements-sha256 HEX [--python PROGRAM]
       install.sh --rollback
       install.sh --uninstall [--purge]

  --wheel, --requirements   what `python3 dev.py build` made, here or at an address; its checksums are in SHA256SUMS.
                            Others on the machine can see an address meanwhile: none with a secret (a SAS) in it
  --python                  a Python of 3.11 or newer, python3 unless given
  --rollback                go back to the version before; a second time, forward again
  --uninstall               remove the agent, and with --purge its settings, its state and its user too;
                            what web servers serve stays

CERTCAST_READY_S is how many seconds a started agent has to become ready, 180 unless set. Exit codes: 0 done,
1 it failed and what ran before runs on, 2 the usage is wrong.
END
}

base=/opt/certcast
settings=/etc/certcast/agent.env
unit=certcast-agent.service
etc=/etc/systemd/system
command=/usr/local/sbin/certcast-agent
half_made=''
going_back_to=''
oldest=''
applying=''

say() { echo "install.sh: $*" >&2; }
fail() {
    say "$*"
    exit 1
}
wrong_usage() {
    say "$*"
    usage >&2
    exit 2
}

# Whatever ends this script, a half-made folder goes, and a switch that was not judged yet is taken back.
leave() {
    code=$?
    trap '' EXIT HUP INT TERM
    if [ -n "$applying" ]; then kill -s TERM -- "-$applying" 2>/dev/null || true; fi
    if [ -n "$going_back_to" ]; then go_back; fi
    if [ -n "$half_made" ]; then rm -rf "$half_made"; fi
    rm -rf "$base"/.fetched.*
    exit "$code"
}

alone() {
    exec 9>/run/certcast-install.lock
    flock --nonblock 9 || fail "another install.sh runs on this machine; wait until it is done"
}

booted() { [ -d /run/systemd/system ]; }
running() { booted && systemctl --quiet is-active "$unit"; }
control() { "$base/versions/$1/systemd/control.sh" "$2"; }
linked() { basename "$(readlink "$base/$1" 2>/dev/null || true)"; }
works() { [ -e "$base/versions/$1/complete" ] && "$base/versions/$1/bin/python" -I -m instance_agent --help >/dev/null 2>&1; }

# Once in private, so that what is compared is what is installed.
fetch() {
    case $1 in
        http://* | https://*)
            "$python" -c '
import shutil, sys, urllib.request
with urllib.request.urlopen(sys.argv[1], timeout=60) as there, open(sys.argv[2], "wb") as here:
    shutil.copyfileobj(there, here)' "$1" "$2" 2>"$2.problem" ||
                fail "$3 could not be fetched: $(tail -n 1 "$2.problem"); nothing was changed"
            ;;
        *) cp -- "$1" "$2" || fail "$3 could not be read; nothing was changed" ;;
    esac
    found=$(sha256sum "$2" | cut -d ' ' -f 1)
    [ "$found" = "$4" ] || fail "$3 has the SHA-256 $found, and not $4 as given; nothing was changed"
}

find_python() {
    command -v "$python" >/dev/null || fail "there is no $python: install Python 3.11 or newer"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "$python is $("$python" --version 2>&1); the agent needs 3.11 or newer: name one with --python"
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "this Python makes no virtual environments: on Debian and Ubuntu, apt-get install python3-venv"
}

# Leave the version's name in $version, and its folder complete.
make_version() {
    name=${wheel%%\?*}
    name=${name##*/}
    version=$(expr "$name" : 'certcast-\([0-9][0-9A-Za-z.+!]*\)-py3-none-any\.whl$') ||
        fail "the wheel must be called certcast-VERSION-py3-none-any.whl, not $name"
    mkdir -p "$base/versions"
    work=$(mktemp -d "$base/.fetched.XXXXXX")
    fetch "$wheel" "$work/$name" "the wheel" "$wheel_sha256"
    fetch "$requirements" "$work/requirements-agent.txt" "the requirements file" "$requirements_sha256"
    version=$version-$(cat "$work/$name" "$work/requirements-agent.txt" | sha256sum | cut -c 1-8)
    folder=$base/versions/$version
    if works "$version"; then
        say "version $version is here already"
    else
        half_made=$folder
        fill
        half_made=''
    fi
}

# Whether the version that runs needs the same, for the same Python: that is copied then, and nothing is fetched.
same_needs() {
    works "$(linked current)" && cmp --quiet "$work/requirements-agent.txt" "$base/current/requirements-agent.txt" &&
        [ "$("$python" -c 'import sys; print(sys.version)')" = "$("$base/current/bin/python" -c 'import sys; print(sys.version)')" ]
}

fill() {
    [ "$version" != "$(linked current)" ] || say "version $version is here and does not start: it is made once more"
    rm -rf "$folder"
    pip="$folder/bin/python -I -m pip install --disable-pip-version-check --quiet --only-binary :all:"
    if same_needs; then
        mkdir "$folder"
        (cd "$base/current" && cp -a bin lib pyvenv.cfg requirements-agent.txt "$folder")
    else
        "$python" -m venv "$folder" || fail "the environment could not be made; what ran before runs on"
        $pip --require-hashes --requirement "$work/requirements-agent.txt" ||
            fail "what the agent needs could not be installed; what ran before runs on"
        cp "$work/requirements-agent.txt" "$folder"
    fi
    $pip --no-deps --no-index --force-reinstall "$work/$name" ||
        fail "the wheel could not be installed; what ran before runs on"
    for found in "$folder"/lib/python3*/site-packages/instance_agent/systemd; do
        ln -s "${found#"$folder/"}" "$folder/systemd"
    done
    chmod 755 "$folder/systemd/control.sh" || fail "this wheel has no unit: it is older than this script"
    : >"$folder/complete"
}

make_user() {
    getent passwd certcast >/dev/null ||
        useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin certcast
}

# Whether there were settings to start with.
keep_settings() {
    mkdir -p "${settings%/*}"
    if [ ! -e "$settings" ]; then
        (umask 077 && cat "$base/versions/$version/systemd/agent.env" >"$settings")
    fi
    chmod 600 "$settings"
    grep -q '^[[:space:]]*CERTCAST_KEY_ENCRYPTION_KEY=.' "$settings"
}

point() {
    ln -sfn "versions/$2" "$base/$1.new"
    mv -T "$base/$1.new" "$base/$1"
}

# The unit is a link to the current version's: what is switched is both at once.
place() {
    point current "$1"
    ln -sfn "$base/current/systemd/$unit" "$etc/$unit.new"
    mv -T "$etc/$unit.new" "$etc/$unit"
    mkdir -p "${command%/*}"
    ln -sfn "$base/current/systemd/control.sh" "$command"
    if booted; then
        systemctl daemon-reload
        systemctl --quiet enable "$unit"
    fi
}

# Beside this script, which a shell else lets nothing end before the agent is ready, or is not; the lock stays here.
apply() {
    setsid "$base/current/systemd/control.sh" apply 9>&- &
    applying=$!
    if wait "$applying"; then answer=0; else answer=$?; fi
    applying=''
    return "$answer"
}

go_back() {
    say "the version before, $going_back_to, takes its place again"
    point current "$going_back_to"
    going_back_to=''
    if [ -n "$oldest" ]; then point previous "$oldest"; else rm -f "$base/previous"; fi
    apply || say "the version before is not ready either"
}

switch() {
    before=$(linked current)
    was_ready=''
    if running && [ -n "$before" ] && CERTCAST_READY_S=5 control "$before" wait 2>/dev/null; then was_ready=yes; fi
    if booted && ! control "$1" preflight; then
        [ -z "$before" ] || fail "version $1 does not start with these settings; what ran before runs on"
        place "$1"
        fail "version $1 is installed and not started: put that right, then run \`certcast-agent restart\`"
    fi
    if [ "$before" != "$1" ]; then
        # First, so that a later run keeps it whenever this one is killed.
        oldest=$(linked previous)
        if [ -n "$before" ]; then point previous "$before"; fi
        if [ -n "$was_ready" ]; then going_back_to=$before; fi
    fi
    place "$1"
    if booted && ! apply; then
        [ -n "$going_back_to" ] || fail "version $1 is installed, and not ready: see above"
        fail "version $1 did not become ready"
    fi
    going_back_to=''
}

# The one that runs, and the one before.
prune() {
    for folder in "$base"/versions/*; do
        case ${folder##*/} in
            "$(linked current)" | "$(linked previous)") ;;
            *) rm -rf "$folder" ;;
        esac
    done
}

install() {
    [ ! -e /usr/lib/certcast-agent ] || fail "the package certcast-agent is installed: bring that up to date by apt-get, or remove it first"
    find_python
    make_version
    make_user
    if keep_settings; then
        switch "$version"
        say "version $version is installed"
    else
        place "$version"
        say "version $version is installed and not started: write $settings, then run \`certcast-agent restart\`"
    fi
    prune
}

rollback() {
    to=$(linked previous)
    if [ -z "$to" ] || [ "$to" = "$(linked current)" ]; then fail "there is no version before to go back to"; fi
    works "$to" || fail "the version before, $to, is there no longer"
    switch "$to"
    say "version $to runs again"
}

uninstall() {
    if booted && [ -e "$etc/$unit" ]; then systemctl --quiet disable --now "$unit" || true; fi
    rm -f "$etc/$unit" "$etc/multi-user.target.wants/$unit" "$etc/$unit.d/50-target.conf" "$command"
    rmdir "$etc/$unit.d" 2>/dev/null || true
    rm -rf "$base"
    if booted; then systemctl daemon-reload; fi
    [ -n "$purge" ] || return 0
    rm -rf "$settings" /var/lib/certcast
    rmdir "${settings%/*}" 2>/dev/null || true
    # Keys that are served stay, and are root's: the next user who gets certcast's number must not own them.
    find /etc/certcast /etc/haproxy/certcast -user certcast -exec chown -h root:root {} + 2>/dev/null || true
    if getent passwd certcast >/dev/null; then userdel certcast; fi
}

what=install wheel='' wheel_sha256='' requirements='' requirements_sha256='' python=python3 purge=''
while [ "$#" -gt 0 ]; do
    case $1 in
        --wheel | --wheel-sha256 | --requirements | --requirements-sha256 | --python)
            [ "$#" -ge 2 ] || wrong_usage "$1 needs a value"
            case $1 in
                --wheel) wheel=$2 ;;
                --wheel-sha256) wheel_sha256=$2 ;;
                --requirements) requirements=$2 ;;
                --requirements-sha256) requirements_sha256=$2 ;;
                --python) python=$2 ;;
            esac
            shift
            ;;
        --rollback) what=rollback ;;
        --uninstall) what=uninstall ;;
        --purge) purge=yes ;;
        -h | --help)
            usage
            exit 0
            ;;
        *) wrong_usage "there is no option $1" ;;
    esac
    shift
done
if [ "$what" = install ]; then
    if [ -z "$wheel" ] || [ -z "$requirements" ]; then wrong_usage "--wheel and --requirements are needed"; fi
    for sum in "$wheel_sha256" "$requirements_sha256"; do
        expr "$sum" : '[0-9a-f]\{64\}$' >/dev/null || wrong_usage "--wheel-sha256 and --requirements-sha256 are 64 digits 0-9 a-f"
    done
fi
[ "$(id -u)" -eq 0 ] || fail "run it as root"
alone
trap leave EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
"$what"
