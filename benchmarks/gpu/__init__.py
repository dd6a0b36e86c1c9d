"""Whether srdist is right and fast on the GPUs of this machine: one command, `python -m benchmarks.gpu`.

sizes        how much each part does: on a GPU, with --quick, on a CPU
part         one part in a process of its own: its time limit, and its figures saved as it ends
goals        the bars that are printed beside the figures
material     images and the packed set that the parts stand on
machine      what the machine is, and its measured peaks
learners     a Learner, and batches in memory
correctness  the device against the CPU: precisions, loss curves, kill -9, upscaling's levels
steps        what a step costs, against its floor
seedscript   the seed's own script on the same device
runs         real trainings: start to the first step, waiting for data
loading      the stream on all cores
ranks        several ranks against one
upscaling    faces and photos against the codecs' and the network's floors
memory       the most that is held
"""
