"""The loop: a network trained over the stream, saved and resumed bit for bit.

trainer     the training loop
inputs      the two splits of a rank, and the workers that read them
beginning   the network as a run begins with it
rehearsal   a pass through a network that leaves no trace in it
draws       what a network draws by chance, made of seed, step and rank
feed        whole steps, fetched and agreed upon one ahead
devicecopies pairs to a CUDA device, beside what it computes
learner     one guarded optimizer step
losses      the losses of a run by name, and their sum
contest     the network against its critic
trained     a module, its optimizer and its average
average     the running average of the weights
schedule    the learning rate of each step
state       where a run stands, read from its folder
result      how a training ended
saver       checkpoints, written beside training
hostcopies  tensors of a device to the host
stepvalues  the values of each step
announce    what a run tells at its start and of a validation
progress    the clock, and the line of the log
signs       signs that network and critic have lost their balance
faults      refused steps and damaged samples, counted and named
validation  scores and sample grid of a run
"""
