"""A directory of images through a network, shared by any number of processes.

job        what is to be done, frozen
tree       a directory through a network
plan       all inputs, in columns, cut into units
outputs    where each output goes
raycluster its units on the actors of a Ray cluster
units      what this process has claimed
pipeline   decode, network, encode overlapped
maker      one image and its receipts
imagefile  one image, tiled where it must be
strips     an image larger than memory
receipts   what became of each image
jobstate   counts over all processes
summary    summary.json, failures.jsonl
"""
