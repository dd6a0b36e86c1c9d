"""How wrong an SR image is, for training.

section     what the section of every loss has
config      which losses: their sections of the config
contest     sections of the losses that a critic judges by, and of the critics
loss        what a loss is
pixel       mean squared, absolute, Charbonnier
frequency   amplitudes and phases: focal frequency, FFT L1
gradient    steps between neighbours: Sobel
similarity  1 - SSIM, 1 - MS-SSIM
perceptual  layers of VGG19, of a file that the user names
adversarial what a critic's judgements cost the network and the critic
critics     the networks that judge: U-Net and patches
artifacts   where SR is worse than the running average's and rough: LDL
"""
