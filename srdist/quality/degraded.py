"""What training would see of some images: degraded patches, what was drawn for each, and a sheet to look at.

Apart from the stream, which knows packed sets only: here ranges are chosen by looking, before anything is packed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from srdist.degradations.degradation import Degradation
from srdist.images.decode import UnreadableImageError
from srdist.machine.files import named_file, write_bytes
from srdist.machine.mixing import mix64
from srdist.shards.plan import key_of
from srdist.stream.cuts import Cuts
from srdist.stream.patches import named_keys

CELL = 240
"""About the side of a patch on the sheet, in pixels."""
_GAP, _LINE, _TITLE = 12, 15, 30
_LINES = 13
_PAIRS_A_ROW = 3


@dataclass(frozen=True, slots=True)
class Degraded:
    """A patch and its LR."""

    name: str
    hr_u8: UInt8[np.ndarray, "H W 3"]
    lr_u8: UInt8[np.ndarray, "h w 3"]
    drawn: tuple[str, ...]
    """In words, what was drawn for it, in the order of the stages."""


def degraded_patches(
    name: str,
    image_u8: UInt8[np.ndarray, "h w 3"],
    degradation: Degradation,
    *,
    hr_patch: int | None,
    count: int,
) -> Iterator[Degraded]:
    """Some draws of one image: another patch each time, or (None) the whole image.

    Args:
        name: with its number, what the draws come from.

    Raises:
        UnreadableImageError: the image is smaller than the patch or the scale.
    """
    height, width = image_u8.shape[:2]
    least = hr_patch or degradation.scale
    if min(height, width) < least:
        raise UnreadableImageError(f"{width}x{height} pixels, smaller than {least}x{least}")
    keys = mix64(named_keys([key_of(name)]) + np.arange(count, dtype=np.uint64))
    sizes = np.tile(np.array([[height, width]]), (count, 1))
    scale = degradation.scale
    if hr_patch is None:
        cuts = Cuts.frames(sizes, keys, scale=scale, flips=False)
    else:
        margin = degradation.margin
        cuts = Cuts.patches(sizes, keys, hr_patch=hr_patch, scale=scale, margin=margin, flips=False)
    for number in range(count):
        (top, left), (high, wide) = cuts.starts[number].tolist(), cuts.extents[number].tolist()
        window = np.ascontiguousarray(image_u8[top : top + high, left : left + wide])
        lr, drawn = degradation.explained(window, int(keys[number]))
        top, left = cuts.insets[number].tolist()
        high, wide = (hr_patch, hr_patch) if hr_patch else (high, wide)
        hr = window[top : top + high, left : left + wide]
        lr = lr[top // scale : (top + high) // scale, left // scale : (left + wide) // scale]
        yield Degraded(f"{name} {number + 1}", hr, lr, drawn)


def sheet(patches: Sequence[Degraded], *, title: str) -> Image.Image:
    """LR, upscaled by repeated pixels, beside HR, and under each pair what was drawn."""
    font, small = ImageFont.load_default(size=16), ImageFont.load_default(size=12)
    pairs = [_pair(patch) for patch in patches]
    width = max(pair.width for pair in pairs)
    rows = [pairs[first : first + _PAIRS_A_ROW] for first in range(0, len(pairs), _PAIRS_A_ROW)]
    heights = [max(pair.height for pair in row) + _LINE * _LINES + _GAP for row in rows]
    columns = min(len(pairs), _PAIRS_A_ROW)
    page = Image.new("RGB", (_GAP + columns * (width + _GAP), _TITLE + sum(heights)), "white")
    pen = ImageDraw.Draw(page)
    pen.text((_GAP, 6), title, fill="black", font=font)
    top = _TITLE
    for first, (row, height) in enumerate(zip(rows, heights, strict=True)):
        for column, pair in enumerate(row):
            left = _GAP + column * (width + _GAP)
            patch = patches[first * _PAIRS_A_ROW + column]
            page.paste(pair, (left, top))
            lines = [patch.name[-(width // 7) :], *patch.drawn[: _LINES - 1]]
            pen.text((left, top + pair.height + 2), "\n".join(lines), fill="black", font=small, spacing=2)
        top += height
    return page


def write_patches(patches: Sequence[Degraded], out: Path, *, title: str) -> None:
    """Write OUT/lr and OUT/hr, OUT/drawn.jsonl and OUT/sheet.png."""
    lines = []
    for number, patch in enumerate(patches, 1):
        file = f"{number:04d}.png"
        for folder, pixels in (("lr", patch.lr_u8), ("hr", patch.hr_u8)):
            (out / folder).mkdir(parents=True, exist_ok=True)
            with named_file(out / folder / file) as temporary:
                Image.fromarray(np.ascontiguousarray(pixels)).save(temporary, format="PNG")
        lines.append(json.dumps({"file": file, "patch": patch.name, "drawn": patch.drawn}))
    write_bytes(out / "drawn.jsonl", "".join(line + "\n" for line in lines).encode())
    with named_file(out / "sheet.png") as temporary:
        sheet(patches, title=title).save(temporary, format="PNG", optimize=True)


def _pair(patch: Degraded) -> Image.Image:
    """LR and HR side by side at one size."""
    height, width = patch.hr_u8.shape[:2]
    times = max(1, round(CELL / max(height, width)))
    size = (width * times, height * times)
    both = Image.new("RGB", (2 * size[0] + 2, size[1]), "white")
    for place, pixels in enumerate((patch.lr_u8, patch.hr_u8)):
        shown = Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.NEAREST)
        both.paste(shown, (place * (size[0] + 2), 0))
    return both
