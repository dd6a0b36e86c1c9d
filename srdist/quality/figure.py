"""What a network does to one image, to be seen: an image and methods in; a picture with zoomed insets and scores out.

The image is the HR original; LR is made of it. The inset lies where the last method gains most over the others,
and is upscaled by repeating pixels, so that the figure adds no smoothing of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from srdist.degradations.section import DegradationSection
from srdist.images.decode import UnreadableImageError
from srdist.images.kernels import Kernel
from srdist.images.pixels import luma, to_pillow
from srdist.machine.errors import UserError
from srdist.machine.files import named_file
from srdist.networks.tiling import NotFiniteError
from srdist.networks.weightfile import load_weights, note_on
from srdist.quality import metrics
from srdist.quality.columns import Column, draw_page, heat
from srdist.quality.lowres import choose_degradation, described, kernel_of
from srdist.quality.measures import HEADS, OF_HR, Measure, MeasureName, choose
from srdist.quality.scores import BASELINES, Method, baseline, common_scale, network_method
from srdist.quality.testset import PairFile, read_pair

PANEL = 380
"""Longer side of a picture of the whole image, in pixels of the figure."""
ZOOM = 6
"""Least upscaling of an inset."""
_MARK = (255, 64, 32)


@dataclass(frozen=True, slots=True)
class Shot:
    """One method's output and its scores against the original."""

    title: str
    image_u8: UInt8[Tensor, "3 h w"]
    scores: tuple[str, ...]
    """Lines."""
    error: Float[Tensor, "h w"] | None
    """Absolute error of the luma, in 8-bit levels; None for the original itself."""


@dataclass(frozen=True, slots=True)
class Inset:
    """The part of the image that is shown upscaled, in HR pixels."""

    left: int
    top: int
    width: int
    height: int
    zoom: int

    def cut(self, image: Image.Image) -> Image.Image:
        """The part, upscaled by repeating pixels."""
        box = (self.left, self.top, self.left + self.width, self.top + self.height)
        return image.crop(box).resize(
            (self.width * self.zoom, self.height * self.zoom), Image.Resampling.NEAREST
        )


def compare(
    image: Path,
    names: Sequence[str] | None,
    weights: str | None,
    *,
    scale: int | None,
    made_by: DegradationSection | None,
    measures: Sequence[MeasureName] | None = (),
    device: torch.device,
    warn: Callable[[str], None],
) -> Image.Image:
    """The figure of one image file: with `names` a contact sheet of those methods, else of the network `weights`.

    Args:
        names: resamplings (evaluation.BASELINES) and weights, as `load_weights` takes them; the last is the subject.
        scale: needed only where there are no weights.
        made_by: what makes LR; None: what the first weights were trained for.
        measures: whose values stand below PSNR and RMSE; None: all that can be taken here.

    Raises:
        UserError: nothing to compare, weights of two scales, an unreadable or too small image, a measure that cannot be taken.
    """
    if not (names or weights):
        raise UserError("nothing to compare: give --weights or --methods")
    resamplings: dict[str, Kernel] = {name: name for name in BASELINES}
    compared = [*(names or []), *([weights] if weights else [])]
    loaded = {name: load_weights(name) for name in compared if name not in resamplings}
    for name in loaded:
        if (note := note_on(name)) is not None:
            warn(note)
    scale = common_scale({name: model.scale for name, (model, _) in loaded.items()}, asked=scale)
    made_by = choose_degradation(made_by, {name: info for name, (_, info) in loaded.items()}, warn=warn)
    asked = choose(
        measures,
        scale=scale,
        kernel=kernel_of(made_by, None),
        made_by=f"LR is {described(made_by)}",
        device=device,
        warn=warn,
    )
    networks = {name: network_method(model, device=device) for name, (model, _) in loaded.items()}
    try:
        file = PairFile(image.name, image, None)
        pair = read_pair(file, scale=scale, degradation=made_by.build(scale=scale))
    except UnreadableImageError as error:
        raise UnreadableImageError(f"{image}: {error}") from error
    lr, hr = pair.lr[0], pair.hr[0]
    if names:
        methods = {
            Path(name).stem: baseline(resamplings[name], scale=scale)
            if name in resamplings
            else networks[name]
            for name in compared
        }
    else:
        low = f"low resolution, {lr.shape[2]} x {lr.shape[1]}"
        methods = {
            low: baseline("nearest", scale=scale),
            "bicubic": baseline("bicubic", scale=scale),
            "super resolution": networks[compared[-1]],
        }
    try:
        shots = shoot(lr, hr, methods, scale=scale, measures=asked)
    except NotFiniteError as error:
        raise NotFiniteError(f"{image}: {error}") from error
    footer = (
        f"{image.name}, x{scale}, LR made by {made_by.name}. "
        f"PSNR: luma of 8-bit images, border {scale}. RMSE: RGB in [0, 1]."
    )
    return contact_sheet(shots, footer=footer) if names else figure(shots, footer=footer)


def shoot(
    lr: UInt8[Tensor, "3 h w"],
    hr: UInt8[Tensor, "3 H W"],
    methods: Mapping[str, Method],
    *,
    scale: int,
    measures: Sequence[Measure] = (),
) -> list[Shot]:
    """The original, then each method's 8-bit output of `lr`, by title, with PSNR-Y, RMSE and `measures` against it."""
    of = {measure.name: measure.beside(lr.unsqueeze(0), hr.unsqueeze(0)) for measure in measures}
    alike = [_worded(name, measure(hr.unsqueeze(0))) for name, measure in of.items() if name == OF_HR]
    shots = [Shot("original", hr, (f"{hr.shape[2]} x {hr.shape[1]} pixels", *alike), None)]
    for title, upscale in methods.items():
        sr = upscale(lr.unsqueeze(0))
        psnr_y_db = metrics.psnr_y(sr, hr.unsqueeze(0), border=scale).item()
        rmse = metrics.rmse(sr, hr.unsqueeze(0)).item()
        error = (luma(sr[0]) - luma(hr)).abs().float()
        # An image that the border leaves nothing of has no PSNR.
        psnr = "-" if math.isnan(psnr_y_db) else f"{psnr_y_db:.2f} dB"
        more = [_worded(name, measure(sr)) for name, measure in of.items() if name != OF_HR]
        pairs = ["   ".join(more[i : i + 2]) for i in range(0, len(more), 2)]
        shots.append(Shot(title, sr[0], (f"PSNR {psnr}   RMSE {rmse:.4f}", *pairs), error))
    return shots


def _worded(name: str, value: Float[Tensor, " 1"]) -> str:
    """A measure's name and value, as `srdist evaluate` prints them."""
    decibels = name.endswith("_db")
    number = f"{value.item():.{2 if decibels else 4}f}" if not value.isnan().any() else "-"
    return f"{HEADS[name].removesuffix(' dB')} {number}{' dB' if decibels else ''}"


def choose_inset(shots: Sequence[Shot], *, width: int, height: int, zoom: int) -> Inset:
    """Where the last method's squared error is most below that of the method before it (a lone one's: greatest)."""
    squares = [shot.error.square() for shot in shots if shot.error is not None]
    gain = squares[-2] - squares[-1] if len(squares) > 1 else squares[0]
    total = torch.nn.functional.pad(gain.double().cumsum(0).cumsum(1), (1, 0, 1, 0))
    windows = (
        total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    )
    top, left = divmod(int(windows.argmax()), windows.shape[1])
    return Inset(left, top, width, height, zoom)


def figure(shots: Sequence[Shot], *, footer: str) -> Image.Image:
    """Each shot whole, its inset below, PSNR and RMSE under it."""
    inset = _inset_for(shots)
    columns = []
    for shot in shots:
        picture = to_pillow(shot.image_u8)
        columns.append(Column(shot.title, shot.scores, (_marked(picture, inset), inset.cut(picture))))
    return draw_page(columns, footer=footer)


def contact_sheet(shots: Sequence[Shot], *, footer: str) -> Image.Image:
    """Each shot's inset, and below it the map of its error over the whole image, all on one scale."""
    inset = _inset_for(shots)
    errors = [shot.error for shot in shots if shot.error is not None]
    # The worst of the pixels would leave the map dark: one in two hundred may be off the scale.
    levels = max(1.0, *(float(np.percentile(error.numpy(), 99.5)) for error in errors))
    columns = []
    for shot in shots:
        picture = to_pillow(shot.image_u8)
        below = _marked(picture if shot.error is None else heat(shot.error / levels), inset)
        columns.append(Column(shot.title, shot.scores, (inset.cut(picture), below)))
    return draw_page(columns, footer=f"{footer}\nerror of the luma, 8-bit levels:", levels=levels)


def save_figure(path: Path, picture: Image.Image) -> None:
    """Write the figure as a whole PNG file."""
    if path.suffix.lower() != ".png":
        raise UserError(f"{path}: the figure is a PNG, expected a name that ends in .png")
    with named_file(path) as temporary:
        picture.save(temporary, format="PNG", optimize=True)


def _inset_for(shots: Sequence[Shot]) -> Inset:
    height, width = shots[0].image_u8.shape[-2:]
    shown_width, _ = _panel_size(width, height)
    zoom = max(ZOOM, 2 * shown_width // width)
    return choose_inset(
        shots,
        width=min(width, max(1, shown_width // zoom)),
        height=min(height, max(1, shown_width * 3 // 4 // zoom)),
        zoom=zoom,
    )


def _panel_size(width: int, height: int) -> tuple[int, int]:
    """Size of the whole image in the figure: a whole multiple for small ones, reduced for large ones."""
    longer = max(width, height)
    if longer > PANEL:
        return max(1, width * PANEL // longer), max(1, height * PANEL // longer)
    factor = max(1, round(PANEL / longer))
    return width * factor, height * factor


def _marked(picture: Image.Image, inset: Inset) -> Image.Image:
    """The whole picture at panel size, the inset's place framed."""
    size = _panel_size(*picture.size)
    smaller = size[0] < picture.width
    shown = picture.resize(size, Image.Resampling.BOX if smaller else Image.Resampling.NEAREST)
    factor = size[0] / picture.width
    left, top = inset.left * factor, inset.top * factor
    # A frame of at least a few pixels, also where the whole image is reduced to a strip.
    width, height = max(4.0, inset.width * factor), max(4.0, inset.height * factor)
    box = (left, top, left + width - 1, top + height - 1)
    draw = ImageDraw.Draw(shown)
    draw.rectangle((box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1), outline=(255, 255, 255), width=4)
    draw.rectangle(box, outline=_MARK, width=2)
    return shown
