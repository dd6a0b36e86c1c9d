"""What lies under the program: errors, whole files, signals, the launcher, ranks, the device, claims on shared work.

system    which operating systems srdist runs on
errors    a user's errors, in one line, and their exit codes
redaction URLs without their credentials
plainjson JSON that anybody may have written, as plain values
files     files appear whole or not at all
statedict plain tensors out of a file that anybody may have written
locks     a file that one process holds, until it ends
stopping  TERM, INT, USR1, HUP, a file STOP: a request to stop
waiting   waits that hear a request to stop, and say who waits for what
launcher  how this process was started: the one reader of RANK, SLURM_*, JOB_*
cores     how many cores it may use: affinity and the control group's quota
memory    how much memory it may use
controlgroup what the control groups grant, version 1 and 2
ranks     which rank, and what all ranks hold together
arithmetic float32 as such or in TensorFloat-32, deterministic algorithms
device    Accelerate's process group, threads, memory
raycluster a connection to a Ray cluster
clock     a span of time in figures
forked    processes beside the work: they leave signals to it, and end with it
progressbar how far a long command is
watchdog  says who waits for what, where nothing moves
liveness  which processes live, here and on other machines
mixing    64-bit mixing, which everything random is made of
claims    work shared by processes that never talk: claims, leases, logs
"""
