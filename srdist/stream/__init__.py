"""The set in motion: which sample comes when, decoded and degraded in worker processes, proven exactly once.

order    which sample comes when
patches  which part of an image, and which way round
batch    what a worker does
ring     worker processes and shared memory
pairs    index + order to (lr, hr) batches
proof    exactly once, proven each epoch
"""
