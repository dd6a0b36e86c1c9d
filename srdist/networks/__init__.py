"""LR to SR: the networks, their files, and images of any size through them.

network         what a network is to the rest of srdist
config          which network: its section of the config
srcnn           SRCNN
plain           plain convolutions on the LR grid: ESPCN, SESR, ECBSR
compact         SRVGGNetCompact
fsrcnn          FSRCNN
edsr            EDSR
span            SPAN
spandrelnetwork an architecture of the spandrel library, trained here
architectures   what the installed spandrel can build, by name
arguments       of a class of somebody else's, checked against its signature
collapse        convolutions trained as several, used as one
initial         initial weights made of a seed
luma            networks that see luma alone
precision       what a network computes in when it is used
weightfile      a network as one safetensors file
blend           a network between two of one shape
statedict       files without a word about their network, known by their tensors
budget          how much a file may claim that its network holds
onnxfile        a network as ONNX
spandrelfile    a network of ours for programs built on spandrel
readback        what such programs make of tensors
foreign         ours, or what spandrel knows
tiling          tiles with a halo, pasted together
tilednetwork    a network over images of any size, as memory allows
piece           how images are cut into pieces of one shape, which share a batch
devicenetwork   a network on one device: pixels in, pixels out
outofmemory     the words that say that memory has run out
"""
