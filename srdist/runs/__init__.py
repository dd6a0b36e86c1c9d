"""A run folder, written: its lock, checkpoints, log, and W&B.

folder      lock, and what may change on resume
checkpoint  whole, verified checkpoints
log         console, metrics.jsonl, samples
liveline    where a training stands, on a terminal
wandb_run   Weights & Biases
"""
