"""Image files to pixels and back: decoding, resizing, photos with all that belongs to them, rows of large ones, folders of them.

kernels  the resampling kernels by name
formats  which formats are read, and their endings
decode   image files to 8-bit RGB, strictly
pixels   8-bit levels, floats, luma, crops
resize   resizing as Pillow does it
similarity  local moments of two images under a Gaussian window, and SSIM of them
photo    any image with its transparency, ICC profile, EXIF and 16 bits
strange  HEIC and SVG, through libvips
rows     images of 16 bits or larger than memory, row by row
folder   the one walker: which files of a folder are images
partners which LR file belongs to which HR file
"""
