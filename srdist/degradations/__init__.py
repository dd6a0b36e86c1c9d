"""HR to LR: what a camera of lower resolution would have seen.

config       which degradation: its section of the config
degradation  what a degradation is
kernel       the resampling kernels as degradations
"""
