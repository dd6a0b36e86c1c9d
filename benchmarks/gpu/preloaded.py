"""What a part's process need not import any more: the forkserver has. Nothing here touches a device."""

import accelerate  # noqa: F401

import srdist.networks.tilednetwork
import srdist.training.trainer
import srdist.upscaling.tree  # noqa: F401
