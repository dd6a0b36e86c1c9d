"""The set in motion: which sample comes when, decoded and degraded in worker processes, proven exactly once.

config   which images, and what is made of them: the config's section `data`
share    rank and world
order    which sample comes when
patches  which part of an image, and which way round
cuts     what becomes of each image of a batch
batch    what a worker does
ring     worker processes and shared memory
ahead    which shards are needed next
prefetch remote shards, fetched ahead by a process a machine
pairs    index + order to (lr, hr) batches
proof    exactly once, proven each epoch
"""
