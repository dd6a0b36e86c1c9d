"""Whether this installation and this machine do what srdist needs: what `srdist doctor` looks at.

packages what is installed, and the line that installs what is missing
hardware devices, and the cores and memory that this process is granted
selftest a tiny image upscaled and one training step, right to the bit
"""
