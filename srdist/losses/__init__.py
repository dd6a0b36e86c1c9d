"""How wrong an SR image is, for training.

config      which losses: their sections of the config
loss        what a loss is
pixel       mean squared, absolute, Charbonnier
frequency   amplitudes and phases: focal frequency, FFT L1
gradient    steps between neighbours: Sobel
similarity  1 - SSIM, 1 - MS-SSIM
artifacts   where SR is worse than the running average's and rough: LDL
"""
