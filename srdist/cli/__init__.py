"""The commands.

main     the commands
quality  evaluate and compare
shards   pack and shards
blend    a network between two
degrade  what training would see of some images
raycluster ray upscale
sweep    sweep: the file, the table, exit code
doctor   doctor, --version: what is installed and granted here
completion completion for shells
upscale  upscale: plan, progress, exit code
"""
