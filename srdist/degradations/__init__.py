"""HR to LR: what a camera of lower resolution would have seen.

config       which degradation: its section of the config
section      what the sections of all degradations have
stageconfig  the sections of a chain's stages
pipelineconfig  those of Real-ESRGAN's and BSRGAN's pipelines, and the presets
fixed        three to score under, equal for everybody
degradation  what a degradation is
packed       LR that is not made, but read
kernel       the resampling kernels as degradations
chain        stages one after the other
stage        what a stage is
draws        what is random in one stage for one image
pipelines    the order of the stages, where that is drawn too
mixture      one of several for each image
blur         convolution by a kernel that is drawn
taps         a blur's kernel, in whole numbers
noise        Gaussian and Poisson's
resize       by a factor that is drawn, and to the size of LR
jpeg         through the codec
"""
