"""How wrong an SR image is, for training.

pixel  mean squared, absolute, Charbonnier
"""
