"""The commands.

main     the commands
shards   pack and shards
degrade  what training would see of some images
upscale  upscale: plan, progress, exit code
"""
