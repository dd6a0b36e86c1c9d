#!/usr/bin/env bash
# on.sh HOST COMMAND...: run COMMAND on a host of the lab that hosts.sh or slurm.sh has set up, in the current folder.
# From outside of the lab, with its LAB: on.sh lab COMMAND... runs it beside the hosts.
set -euo pipefail
[[ $# -ge 2 ]] || { echo "usage: on.sh HOST COMMAND..." >&2; exit 2; }
[[ -r ${LAB:-}/$1.pid ]] || { echo "on.sh: there is no host $1 here: it is for use in a lab of hosts.sh or slurm.sh" >&2; exit 2; }
read -r pid <"$LAB/$1.pid"
shift
# The folder is entered last: one that was entered before would be on the file systems of outside.
# shellcheck disable=SC2016 # expanded there
exec nsenter --target "$pid" --pid --mount --net --uts --ipc \
    bash -c 'cd "$1" && shift && exec "$@"' on "$PWD" "$@"
