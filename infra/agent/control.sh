#!/bin/sh
# certcast-agent: sees to the agent's unit, for its installers, and for a person who has changed its settings.
set -eu

usage() {
    cat <<'END'
usage: certcast-agent preflight | rights | apply | restart | wait

  preflight   see whether the settings are such as the agent starts with, under the rights that its unit gives it
  rights      give the unit the rights that CERTCAST_TARGET needs
  apply       the same; then restart it, and wait as `wait` does
  restart     `preflight`, then `apply`: what to do after a change of settings
  wait        wait until the agent is ready, or say what keeps it from it

CERTCAST_READY_S is how many seconds are waited, 180 unless set. Exit codes: 0 done, 1 the agent is not ready,
2 the settings or the usage are wrong.
END
}

settings=/etc/certcast/agent.env
unit=certcast-agent.service
drop_ins=/etc/systemd/system/$unit.d
here=$(dirname "$(readlink -f "$0")")
python=${here%/lib/python*}/bin/python

say() { echo "certcast-agent: $*" >&2; }
fail() {
    code=$1
    shift
    say "$*"
    exit "$code"
}

# A setting's value as systemd reads the file, for values without escapes.
setting() {
    sed -n "s/^[[:space:]]*$1=//p" "$settings" | tail -n 1 |
        sed -e 's/[[:space:]]*$//' -e 's/^"\(.*\)"$/\1/' -e "s/^'\(.*\)'\$/\1/"
}

find_target() {
    [ -r "$settings" ] || fail 2 "there is no $settings: write it (docs/agents.md), then run \`certcast-agent restart\`"
    target=$(setting CERTCAST_TARGET)
    target=${target:-embedded}
    rights=$here/targets/$target.conf
    if [ ! -f "$rights" ]; then
        known=$(basename -s .conf "$here"/targets/*.conf | tr '\n' ' ')
        fail 2 "CERTCAST_TARGET in $settings must be one of ${known% }, not '$target'"
    fi
    [ -d /run/systemd/system ] || fail 1 "systemd does not run here, so there is no unit to see to"
}

# What the unit and its drop-ins say of the process, without what they say of its life.
rights_given() {
    set -- "$here/$unit" "$rights"
    for own in "$drop_ins"/*.conf; do
        if [ -f "$own" ] && [ "${own##*/}" != 50-target.conf ]; then set -- "$@" "$own"; fi
    done
    cat "$@" | sed -n '/^\[Service\]/,/^\[[^S]/{/^[A-Z][A-Za-z]*=/p}' |
        grep -Ev '^(Type|Exec[A-Za-z]*|Restart[A-Za-z]*|KillMode|TimeoutStopSec)='
}

preflight() {
    told=$(mktemp /run/certcast-preflight.XXXXXX)
    set -- "--property=StandardOutput=append:$told" "--property=StandardError=append:$told"
    while IFS= read -r line; do
        set -- "$@" "--property=$line"
    done <<END
$(rights_given)
END
    code=0
    problem=$(systemd-run --quiet --collect --service-type=oneshot --unit="certcast-preflight-$$" "$@" \
        "$python" -m instance_agent selftest --preflight 2>&1) || code=2
    if [ "$code" -ne 0 ] && [ ! -s "$told" ]; then echo "$problem" >"$told"; fi
    cat "$told" >&2
    rm -f "$told"
    return "$code"
}

ready() {
    address=$(setting CERTCAST_HEALTH_ADDRESS)
    port=$(setting CERTCAST_HEALTH_PORT)
    "$python" "$here/ready.py" "$unit" "${address:-127.0.0.1}" "${port:-8484}" "${CERTCAST_READY_S:-180}"
}

wait_for_it() {
    if ! ready; then
        journalctl --unit "$unit" --lines 5 --output cat --no-pager >&2 || true
        return 1
    fi
}

give_rights() {
    # The target's own folder, by default, which it cannot make where only that folder may be written.
    folder=$(sed -n 's/^ReadWritePaths=-\([^ ]*\).*/\1/p' "$rights")
    if [ -n "$folder" ] && [ ! -e "$folder" ] && [ -d "${folder%/*}" ]; then
        owner=$(sed -n 's/^User=//p' "$rights")
        mkdir -m 700 "$folder"
        chown "${owner:-certcast}:" "$folder"
    fi
    mkdir -p "$drop_ins"
    # By the link that install.sh switches, where there is one: the unit's rights go with its version.
    case $here in
        /opt/certcast/versions/*) rights=/opt/certcast/current/systemd/targets/$target.conf ;;
    esac
    ln -sfn "$rights" "$drop_ins/50-target.conf"
    systemctl daemon-reload
}

restart() {
    systemctl reset-failed "$unit" 2>/dev/null || true
    systemctl restart "$unit" || say "$unit could not be started"
    wait_for_it
}

if [ "$#" -ne 1 ]; then
    usage >&2
    exit 2
fi
case $1 in
    -h | --help) usage ;;
    preflight)
        find_target
        preflight
        ;;
    rights)
        find_target
        give_rights
        ;;
    apply)
        find_target
        give_rights
        restart
        ;;
    restart)
        find_target
        preflight
        give_rights
        restart
        ;;
    wait)
        find_target
        wait_for_it
        ;;
    *)
        usage >&2
        exit 2
        ;;
esac
