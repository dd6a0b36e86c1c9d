"""HR to LR: what a camera of lower resolution would have seen.

kernel  the resampling kernels as degradations
"""
