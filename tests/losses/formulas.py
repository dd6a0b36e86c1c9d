"""The losses of one image in float64, by libraries that srdist does not use and in other steps than its own."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import sobel as slope
from scipy.signal import convolve2d
from skimage.metrics import structural_similarity

Image = np.ndarray  # float64 [3, h, w]


def focal_frequency(sr: Image, hr: Image, *, alpha: float) -> float:
    total = 0.0
    for a, b in zip(sr, hr, strict=True):
        spectrum = _dft(a) - _dft(b)
        distance = np.hypot(spectrum.real, spectrum.imag)
        total += float((distance**alpha / (distance**alpha).max() * distance**2).mean())
    return total / 3


def fft_l1(sr: Image, hr: Image) -> float:
    spectra = [_dft(a) - _dft(b) for a, b in zip(sr, hr, strict=True)]
    return float(np.mean([np.abs(s.real).mean() / 2 + np.abs(s.imag).mean() / 2 for s in spectra]))


def _dft(image: np.ndarray) -> np.ndarray:
    """By its definition, orthonormal."""
    rows, columns = (
        np.exp(-2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n) / np.sqrt(n) for n in image.shape
    )
    return np.asarray(rows @ image @ columns)


def sobel(sr: Image, hr: Image) -> float:
    inside = (slice(1, -1), slice(1, -1))
    slopes = [
        np.abs(slope(a, axis)[inside] - slope(b, axis)[inside]).mean() / 8
        for a, b in zip(sr, hr, strict=True)
        for axis in (0, 1)
    ]
    return float(np.mean(slopes))


def dissimilarity(sr: Image, hr: Image) -> float:
    return 1 - float(
        np.mean(
            [
                structural_similarity(
                    a,
                    b,
                    gaussian_weights=True,
                    sigma=1.5,
                    use_sample_covariance=False,
                    data_range=1.0,
                    full=True,
                )[1][5:-5, 5:-5].mean()
                for a, b in zip(sr, hr, strict=True)
            ]
        )
    )


def multiscale_dissimilarity(sr: Image, hr: Image, *, scales: int) -> float:
    weights = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333][:scales])
    weights /= weights.sum()
    means = []
    for a, b in zip(sr, hr, strict=True):
        product = 1.0
        for scale, weight in enumerate(weights):
            if scale:
                a, b = _halved(a), _halved(b)
            structure, luminance = _terms(a, b)
            product *= float((structure * luminance if scale == scales - 1 else structure).mean()) ** weight
        means.append(product)
    return 1 - float(np.mean(means))


def _halved(image: np.ndarray) -> np.ndarray:
    height, width = (side // 2 * 2 for side in image.shape)
    return np.asarray(image[:height, :width].reshape(height // 2, 2, width // 2, 2).mean((1, 3)))


def _terms(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    line = np.exp(-(np.arange(-5, 6) ** 2) / 4.5)
    window = np.outer(line, line) / line.sum() ** 2

    def mean(image: np.ndarray) -> np.ndarray:
        return np.asarray(convolve2d(image, window, mode="valid"))

    c1, c2, at, bt = 1e-4, 9e-4, mean(a), mean(b)
    aa, bb, ab = mean(a * a) - at * at, mean(b * b) - bt * bt, mean(a * b) - at * bt
    return (2 * ab + c2) / (aa + bb + c2), (2 * at * bt + c1) / (at * at + bt * bt + c1)


def ldl(sr: Image, hr: Image, average_sr: Image) -> float:
    residual, average = np.abs(sr - hr).sum(0), np.abs(average_sr - hr).sum(0)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(residual, 3, mode="reflect"), (7, 7))
    weight = windows.var((-2, -1), ddof=1) * residual.var(ddof=1) ** 0.2
    weight[residual < average] = 0
    return float((np.abs(weight * sr - weight * hr)).mean())
