#!/usr/bin/env bash
# Hosts on one machine, for trying out what needs several: each has processes, a name and a network of its own.
#
#   launch/lab/hosts.sh N COMMAND...     run COMMAND beside the hosts h0 to h(N-1); no COMMAND: a shell
#   launch/lab/on.sh h1 COMMAND...       in there: run COMMAND on one of them
#
# They share the machine's files, are called by name, and reach each other over a bridge and nothing outside. All of it
# lives in namespaces, which end with COMMAND: no process, no network and no file is left, however it ends. On Linux, as root.
set -euo pipefail
here=$(dirname "$(realpath "$0")")

network=10.77.0 # in a network namespace of its own: nobody else's

inside() {
    local count=$1 number host
    shift
    read -r outer _ </proc/self/stat # still the /proc of outside
    echo "$outer" >"$LAB/lab.pid"
    mount -t proc proc /proc
    hostname lab
    {
        echo "127.0.0.1 localhost"
        echo "$network.254 lab"
        for ((number = 0; number < count; number++)); do echo "$network.$((number + 1)) h$number"; done
    } >"$LAB/etc-hosts"
    mount --bind "$LAB/etc-hosts" /etc/hosts
    ip link set lo up
    ip link add bridge type bridge
    ip addr add "$network.254/24" dev bridge
    ip link set bridge up
    for ((number = 0; number < count; number++)); do
        host=h$number
        # As its first process bash takes in orphans, as an init does.
        # shellcheck disable=SC2016 # expanded there
        unshare --pid --fork --kill-child --mount --mount-proc --net --uts --ipc \
            bash -c 'hostname "$1"; sleep infinity & wait' host "$host" &
        # The namespaces are there once the process that was forked into them is.
        until pgrep --parent $! >"$LAB/$host.pid"; do sleep 0.02; done
        read -r pid <"$LAB/$host.pid"
        ip link add "$host" type veth peer name e0 netns "$pid"
        ip link set "$host" master bridge up
        nsenter --target "$pid" --net ip addr add "$network.$((number + 1))/24" dev e0
        nsenter --target "$pid" --net ip link set lo up
        nsenter --target "$pid" --net ip link set e0 up
    done
    : >"$LAB/hosts-are-up"
    "${@:-bash}"
}

if [[ ${1:-} == inside ]]; then
    shift
    inside "$@"
    exit
fi

[[ ${1:-} =~ ^[1-9][0-9]?$ ]] || { echo "usage: $0 N COMMAND...   (N hosts, 1 to 99)" >&2; exit 2; }
[[ $(uname) == Linux && $EUID == 0 ]] || { echo "$0: needs Linux, and to be root" >&2; exit 2; }
for program in ip unshare nsenter setpriv; do
    command -v "$program" >/dev/null || { echo "$0: needs $program (Debian: iproute2, util-linux)" >&2; exit 2; }
done
if [[ -z ${LAB:-} ]]; then
    LAB=$(mktemp -d)
    trap 'pkill -KILL --parent $$ || true; rm -rf "$LAB"' EXIT
fi
export LAB # where what a lab needs lies; one that was there before stays
# The kernel ends unshare with this script, and the lab with unshare.
setpriv --pdeathsig KILL unshare --pid --fork --kill-child --mount --net --uts --ipc \
    "$here/hosts.sh" inside "$@"
