"""The commands.

main     the commands
shards   pack and shards
upscale  upscale: plan, progress, exit code
"""
