"""How wrong an SR image is, for training.

config  which losses: their sections of the config
loss    what a loss is
pixel   mean squared, absolute, Charbonnier
"""
