#!/usr/bin/env bash
# Train on several machines that share a folder, without a scheduler. On each of them, at about the same time:
#
#   launch/machines.sh 2 HOST0 runs/NAME --config configs/srcnn_x2.yaml        # waits for both, ends when one is lost
#   launch/machines.sh 1:2 HOST0 runs/NAME --config configs/srcnn_x2.yaml      # elastic: from 1 to 2, goes on with those that are left
#
# HOST0 is the name of the machine that brings them together: the run ends with that one. Then comes the run folder, then
# what `srdist train` takes. A rank for each GPU of a machine; RANKS=2 before the command says another number, as on CPUs.
# TERM, INT, HUP or USR1 to this script on any of them: all ranks save at one step, and all end with 0.
# A machine that vanishes without a word is missed after train.peer_timeout_s (10 minutes, if the config says nothing else).
# One that was cut off or started anew joins again by the same command.
set -euo pipefail

[[ $# -ge 3 && $1 =~ ^[0-9]+(:[0-9]+)?$ ]] || { sed -n '2,13s/^# \{0,1\}//p' "$0" >&2; exit 2; }
machines=$1 meeting=$2 run=$3
shift 3
[[ $meeting == *:* ]] || meeting=$meeting:29500

# With gloo, which CPU ranks talk by: restarts were unreliable without.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
restarts=0
[[ $machines == *:* ]] && restarts=10
# Whether a process has a handler of USR1, which is signal 10 on Linux.
# shellcheck disable=SC2329 # called by the trap, as the next one
hears() {
    local mask
    mask=$(sed -n 's/^SigCgt:[[:space:]]*//p' "/proc/$1/status" 2>/dev/null) && ((16#${mask:-0} >> 9 & 1))
}

# Tells the ranks, each once, as soon as they hear it, and not torchrun: that would leave at once, and those of the other machines would
# wait for it for minutes. Where it has no ranks it waits for other machines.
# shellcheck disable=SC2329
end() {
    local rank told=" " without_ranks=0
    while kill -0 "$torchrun" 2>/dev/null; do
        for rank in $(pgrep --parent "$torchrun"); do
            if [[ $told != *" $rank "* ]] && hears "$rank" && kill -USR1 "$rank" 2>/dev/null; then told+="$rank "; fi
            without_ranks=0
        done
        ((++without_ranks < 20)) || kill -TERM "$torchrun" 2>/dev/null || true
        sleep 1
    done
}

# read_timeout: how long machines wait for HOST0 to answer, as at the start. What PET_RDZV_CONF says, torchrun's variable, counts as well.
(
    trap '' INT HUP USR1
    exec setpriv --pdeathsig KILL torchrun --nnodes "$machines" --nproc-per-node "${RANKS:-gpu}" --max-restarts "$restarts" \
        --rdzv-backend c10d --rdzv-endpoint "$meeting" --rdzv-id "${run//\//_}" \
        --rdzv-conf "read_timeout=600${PET_RDZV_CONF:+,$PET_RDZV_CONF}" --signals-to-handle SIGTERM \
        --log-dir /dev/null -m -- srdist train --run "$run" "$@"
) &
torchrun=$!
trap end TERM INT HUP USR1
code=0
wait "$torchrun" || true # ended by a signal, it says nothing of torchrun
wait "$torchrun" || code=$?
exit "$code"
