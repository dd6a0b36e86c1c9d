"""Which images, and what is made of them: the config's section `data`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_serializer, model_validator

from srdist.degradations.config import DegradationConfig, KernelConfig
from srdist.degradations.section import DegradationSection
from srdist.images.kernels import Kernel
from srdist.machine.redaction import redacted
from srdist.settings.section import Section


class DataConfig(Section):
    """Which images, and what is made of them."""

    shards: str = "shards/demo"
    """Folder (or fsspec URL) of a packed set: tars, manifest.json and index/."""
    train_split: str = "train"
    """Split that is trained on."""
    val_split: str = "val"
    """Split that validation reads."""
    hr_patch: Annotated[int, Field(ge=1)] | None = 48
    """Side of the square HR crop, in pixels, a multiple of the scale; null = full frames (all of one size)."""
    patches_per_image: Annotated[int, Field(ge=1, le=4096)] = 1
    """Patches cut from each decoded image, which follow one another; an epoch has as many of every image."""
    kernel: Kernel | None = "bicubic"
    """Kernel that makes LR from HR, all but nearest antialiased, as Pillow's are; null = as `degradation` says."""
    degradation: DegradationConfig | None = None
    """What makes LR from HR, as in {kind: kernel, kernel: bicubic}; null = the kernel of `kernel`."""
    flips: bool = True
    """Random mirroring, and with square patches quarter turns, of training samples."""
    workers: Annotated[int, Field(ge=0, le=256)] = 2
    """Worker processes per rank that decode and degrade; 0 = in the training process."""
    order: Literal["global", "window"] = "global"
    """global: any sample may come at any time; window: `window_shards` shards at a time, for remote or huge sets."""
    window_shards: Annotated[int, Field(ge=1)] = 8
    """Shards that are read together in window order."""
    on_bad_sample: Literal["fail", "skip"] = "fail"
    """fail: stop at a damaged sample; skip: give it weight 0, count and list it in bad_samples.jsonl."""
    max_bad_fraction: Annotated[float, Field(ge=0, le=1)] = 1e-3
    """With skip: share of damaged samples above which the run stops, 0 to 1."""

    @property
    def how_degraded(self) -> DegradationSection:
        """What makes LR from HR, however the config says it."""
        if self.degradation is not None:
            return self.degradation
        assert self.kernel is not None
        return KernelConfig(kernel=self.kernel)

    @field_serializer("shards")
    def _without_credentials(self, shards: str) -> str:
        # Whatever is saved, logged, shown or sent of a config comes from here.
        return redacted(shards)

    @model_validator(mode="before")
    @classmethod
    def _degradation_stands_for_kernel(cls, values: Any) -> Any:
        # The default of `kernel` would else contradict `degradation`.
        if isinstance(values, dict) and values.get("degradation") is not None:
            return {"kernel": None, **values}
        return values

    @model_validator(mode="after")
    def _one_says_it(self) -> Self:
        if (self.kernel is None) == (self.degradation is None):
            raise ValueError("kernel and degradation say the same thing: one of them is null, the other not")
        return self

    @model_validator(mode="after")
    def _whole_images_have_no_patches(self) -> Self:
        if self.hr_patch is None and self.patches_per_image > 1:
            raise ValueError(
                f"patches_per_image: found {self.patches_per_image}, expected 1 with hr_patch: null (whole images)"
            )
        return self
