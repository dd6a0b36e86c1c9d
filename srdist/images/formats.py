"""Which formats are read here, and the endings that files have of them."""

from __future__ import annotations

_FORMATS = """
JPEG PNG WEBP TIFF GIF BMP PPM AVIF JPEG2000
BLP CUR DCX DDS DIB FLI FTEX GBR ICNS ICO IM MSP PCD PCX PIXAR PSD QOI SGI SUN TGA XBM XPM
"""
_SUFFIXES = """
.jpg .jpeg .jpe .jfif .mpo .png .apng .webp .tif .tiff .gif .bmp .dib .ppm .pgm .pbm .pnm .pfm .avif .avifs
.jp2 .j2k .jpc .jpf .jpx .j2c .blp .cur .dcx .dds .fli .flc .ftc .ftu .gbr .icns .ico .im .msp .pcd .pcx .pxr .psd
.qoi .sgi .rgb .rgba .bw .ras .tga .icb .vda .vst .xbm .xpm
"""
_FOREIGN = """
.3fr .arw .bpg .cin .cr2 .cr3 .crw .dcr .dng .dpx .emf .eps .erf .exr .fit .fits .hdr .jng .jxl .jxr .kdc .mng
.mrw .nef .nrw .orf .pef .psb .raf .rw2 .sr2 .srf .srw .wdp .wmf .x3f .xcf
"""

FORMATS = tuple(_FORMATS.split())
"""What Pillow may open, whatever a file is called: not EPS, which starts another program, nor what it only recognizes."""

VIPS_SUFFIXES = frozenset({".heic", ".heif", ".hif", ".svg", ".svgz"})
"""Endings of the formats that only libvips opens here."""

IMAGE_SUFFIXES = frozenset(_SUFFIXES.split()) | VIPS_SUFFIXES
"""Endings, in lower case, that are taken for images."""

FOREIGN_SUFFIXES = frozenset(_FOREIGN.split())
"""Endings of images that nothing here can read: they are told by name, not taken for other files."""


def too_many_pixels(size: tuple[int, int] | None, *, limit: int) -> str:
    """Why an image is refused before it is decoded.

    Args:
        size: (width, height) that it claims, where that is known.
        limit: in pixels.
    """
    claimed = f"{size[0]}x{size[1]} pixels" if size is not None else "too many pixels"
    return f"claims {claimed}, over the limit of {limit / 1e6:,.0f} megapixels"
