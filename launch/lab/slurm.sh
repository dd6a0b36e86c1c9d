#!/usr/bin/env bash
# A Slurm cluster of two machines on this one, of the real daemons: slurmctld, munged, and a slurmd on each of the hosts h0 and h1.
#
#   launch/lab/slurm.sh COMMAND...       run COMMAND (sbatch --wait ..., a test) on its login host; no COMMAND: a shell
#
# Needs root and the packages of Debian or Ubuntu (nothing of theirs is started, nothing of their settings used):
#
#   apt-get install --no-install-recommends slurmctld slurmd slurm-client munge
#
# Each host has CORES cores (default: all of the machine) and two GPUs, which are only device files: enough for Slurm to hand them
# out. Jobs of the partition "urgent" preempt those of "normal". As hosts.sh, it ends with COMMAND and leaves nothing.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
export PATH=$PATH:/usr/sbin

if [[ ${1:-} != inside ]]; then
    for program in slurmctld slurmd sbatch munged mungekey; do
        command -v "$program" >/dev/null || {
            echo "$0: needs $program: apt-get install --no-install-recommends slurmctld slurmd slurm-client munge" >&2
            exit 2
        }
    done
    exec "$here/hosts.sh" 2 "$(realpath "$0")" inside "$@"
fi
shift

# Waits for a command to succeed, at most a minute.
until_true() {
    local tries
    for ((tries = 0; tries < 600; tries++)); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.1
    done
    echo "slurm.sh: waited in vain for: $*; its logs:" >&2
    tail -n 20 "$LAB"/*.log >&2
    exit 1
}

cores=${CORES:-$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc)} # which nproc would take for a limit
mkdir "$LAB/state"
for number in 0 1; do mknod "$LAB/gpu$number" c 1 3; done # as /dev/null
# Short times, where a cluster has minutes: a job that was requeued starts again after cred_expire, and what a
# signal has not ended is killed KillWait after it.
cat >"$LAB/slurm.conf" <<END
ClusterName=lab
SlurmctldHost=lab
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$LAB/munge.sock,cred_expire=5
StateSaveLocation=$LAB/state
SlurmdSpoolDir=$LAB/spool-%n
SlurmctldPidFile=$LAB/slurmctld.pid
SlurmdPidFile=$LAB/slurmd-%n.pid
SlurmctldLogFile=$LAB/slurmctld.log
SlurmdLogFile=$LAB/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=bf_interval=1,sched_interval=1,sched_min_interval=1,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=${KILL_WAIT:-30}
SlurmdTimeout=10
ReturnToService=2
MpiDefault=none
GresTypes=gpu
NodeName=h[0-1] CPUs=$cores Gres=gpu:2 State=UNKNOWN
PartitionName=normal Nodes=ALL Default=YES PriorityTier=1 GraceTime=${GRACE_TIME:-0} State=UP
PartitionName=urgent Nodes=ALL PriorityTier=2 State=UP
END
echo "Name=gpu File=$LAB/gpu[0-1]" >"$LAB/gres.conf"
export SLURM_CONF=$LAB/slurm.conf

mungekey --create --keyfile "$LAB/munge.key"
# --force: it would not have its files in a folder that others may write to, as /tmp is.
munged --force --key-file "$LAB/munge.key" --socket "$LAB/munge.sock" --pid-file "$LAB/munged.pid" \
    --log-file "$LAB/munged.log" --seed-file "$LAB/munge.seed" 2>/dev/null
slurmctld
for host in h0 h1; do
    "$here/on.sh" "$host" slurmd -N "$host"
done
hosts_are_idle() { [[ $(sinfo --noheader --partition normal --format "%T %D") == "idle 2" ]]; }
until_true hosts_are_idle
: >"$LAB/slurm-is-up"
"${@:-bash}"
