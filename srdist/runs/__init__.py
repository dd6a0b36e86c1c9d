"""A run folder, written: its lock, checkpoints, log, and W&B.

folder      lock, and what may change on resume
checkpoint  whole, verified checkpoints
log         console, metrics.jsonl, samples
wandb_run   Weights & Biases
"""
