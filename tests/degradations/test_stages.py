"""The stages: each does what it says, and the same bytes whatever computes it."""

from __future__ import annotations

import hashlib
import math
import pickle

import numpy as np
import pytest

from srdist.degradations import taps
from srdist.degradations.blur import SHAPES, convolved
from srdist.degradations.config import ChainConfig, KernelConfig
from srdist.degradations.draws import Draws
from srdist.degradations.noise import normal_table, poisson_table
from srdist.degradations.stageconfig import BlurConfig, JPEGConfig, NoiseConfig, ResizeConfig, Shapes
from srdist.degradations.taps import SUM, Ellipse
from tests.stream.test_pinned import formula

SIZE = (16, 16)


def psnr_db(a: np.ndarray, b: np.ndarray) -> float:
    return -10 * math.log10(np.square(a.astype(float) - b).mean() / 255**2)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_blur_of_each_shape_keeps_the_size_and_takes_contrast(shape: str) -> None:
    image = formula(3, 40, 33)
    only = Shapes.model_validate(dict.fromkeys(Shapes.model_fields, 0.0) | {shape: 1.0})
    stage = BlurConfig(sinc=0, shapes=only).stage()
    for key in range(5):
        blurred, words = stage(image, SIZE, Draws.of(key, "blur 1"))
        assert words.startswith(shape)
        assert blurred.shape == image.shape
        assert blurred.std() < image.std()


@pytest.mark.parametrize("side", [1, 3, 11, 13, 21, 31])
def test_large_kernels_go_in_parts_that_sum_to_the_whole(side: int) -> None:
    image = formula(5, 37, 50)
    kernel = taps.sinc(side, 2.9)
    radius = len(kernel) // 2
    around = ((radius, radius), (radius, radius), (0, 0))
    padded = np.pad(image, around, mode="reflect").astype(np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape, axis=(0, 1))
    sums = (windows * kernel.astype(np.int64)).sum(axis=(-2, -1))
    expected = ((sums + SUM // 2) // SUM).clip(0, 255)
    assert np.array_equal(convolved(image, kernel), expected)


def test_kernels_sum_to_one_and_are_as_wide_as_they_say() -> None:
    kernel = taps.gaussian(21, Ellipse(2.5, 1.2, 0)).astype(float)
    assert kernel.sum() == SUM
    place = np.arange(len(kernel)) - len(kernel) // 2
    widths = [math.sqrt((kernel.sum(axis=axis) * place**2).sum() / SUM) for axis in (0, 1)]
    assert widths == pytest.approx([2.5, 1.2], rel=0.02)
    turned = taps.gaussian(21, Ellipse(2.5, 1.2, 128)).astype(float)
    assert np.abs(turned - kernel.T).max() <= 1
    for cutoff in (0.5, 1.0472, 2.0, 3.1416):
        ring = taps.sinc(31, cutoff)
        assert ring.sum() == SUM
        assert 255 * np.abs(ring).sum() < 2**24


@pytest.mark.parametrize("grey", [0, 1])
def test_gaussian_noise_has_the_strength_that_it_says(grey: int) -> None:
    image = np.full((200, 200, 3), 128, np.uint8)
    stage = NoiseConfig(gaussian=1, sigma=(9, 9), grey=grey).stage()
    noisy = stage(image, SIZE, Draws.of(5, "noise 1"))[0].astype(float) - 128
    assert noisy.std() == pytest.approx(9, rel=0.02)
    assert abs(noisy.mean()) < 0.1
    assert np.array_equal(noisy[..., 0], noisy[..., 1]) == bool(grey)


@pytest.mark.parametrize(("light", "strength"), [(20, 1.0), (100, 0.5), (180, 2.0)])
def test_poisson_noise_grows_with_the_light(light: int, strength: float) -> None:
    image = np.full((200, 200, 3), light, np.uint8)
    stage = NoiseConfig(gaussian=0, poisson=(strength, strength), grey=0).stage()
    noisy = stage(image, SIZE, Draws.of(6, "noise 1"))[0].astype(float)
    assert noisy.std() == pytest.approx(strength * math.sqrt(light), rel=0.03)
    assert abs(noisy.mean() - light) < 0.5


def test_jpeg_loses_more_at_a_lower_quality_and_with_less_colour(photos: dict[str, np.ndarray]) -> None:
    image = np.ascontiguousarray(photos["chelsea"][60:188, 60:188])

    def after(**fields: object) -> float:
        stage = JPEGConfig.model_validate({"s444": 1, "s422": 0, "s420": 0} | fields).stage()
        made, words = stage(image, SIZE, Draws.of(3, "jpeg 1"))
        assert made.shape == image.shape
        assert words.startswith("JPEG")
        return psnr_db(made, image)

    best, good = after(quality=(95, 95)), after(quality=(70, 70))
    assert best > good > after(quality=(30, 30)) > 20
    assert best > after(quality=(95, 95), s444=0, s420=1)


def test_the_grid_of_a_jpeg_lies_anywhere() -> None:
    """Also where a patch begins in the middle of the file's block."""
    image = np.zeros((48, 48, 3), np.uint8)
    image[20:28, 20:28] = 255
    stage = JPEGConfig(quality=(10, 10)).stage()
    assert len({stage(image, SIZE, Draws.of(key, "jpeg 1"))[0].tobytes() for key in range(30)}) > 20


def test_resizing_keeps_to_its_range_and_its_reference() -> None:
    image = formula(1, 64, 48)
    for of, height in (("image", 64), ("lr", 16)):
        stage = ResizeConfig.model_validate({"of": of, "ratio": [0.5, 1.5]}).stage()
        heights = {stage(image, SIZE, Draws.of(key, "resize 1"))[0].shape[0] for key in range(200)}
        assert min(heights) >= height // 2
        assert max(heights) <= height * 3 // 2
        assert height in heights
        assert len(heights) > 10


def test_what_one_stage_draws_does_not_depend_on_the_others() -> None:
    hr = formula(2, 48, 48)
    noise, blur, kernel = NoiseConfig(), BlurConfig(), KernelConfig()
    for key in range(10):
        short = ChainConfig(stages=(noise, kernel)).build(scale=2).explained(hr, key)[1]
        long = ChainConfig(stages=(blur, noise, kernel, JPEGConfig())).build(scale=2).explained(hr, key)[1]
        assert short[0] == long[1]


CHAIN = ChainConfig(stages=(BlurConfig(), ResizeConfig(), NoiseConfig(), KernelConfig(), BlurConfig()))


def test_an_image_is_degraded_by_its_key_alone_and_pickles_keep_that() -> None:
    hr = np.stack([formula(number, 48, 48) for number in range(6)])
    keys = np.arange(100, 106, dtype=np.uint64)
    made = CHAIN.build(scale=3)
    whole = made(hr, keys)
    assert whole.shape == (6, 16, 16, 3)
    again = pickle.loads(pickle.dumps(made))
    for place in range(6):
        assert np.array_equal(again(hr[place : place + 1], keys[place : place + 1])[0], whole[place])
    assert not np.array_equal(made(hr[:1], keys[1:2])[0], whole[0])


def test_the_bytes_never_change_between_versions_and_machines() -> None:
    """All but JPEG's, which are the codec's. Where this fails, weights say a degradation that they were not trained for."""
    assert digest(normal_table()) == "06c028f826eb57a7"
    assert digest(poisson_table()) == "1443214f60751e0c"
    hr = np.stack([formula(number, 48, 48) for number in range(40)])
    assert digest(CHAIN.build(scale=3)(hr, np.arange(40, dtype=np.uint64))) == "835a431dcb99d81d"


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"kind": "chain", "stages": [{"kind": "blur"}]}, "stages has 0 of kind kernel, expected one"),
        ({"kind": "chain", "stages": [{"kind": "kernel"}, {"kind": "resize"}]}, "a resize after the kernel"),
        ({"kind": "blur", "side": [7, 20]}, "side must be odd, found 20"),
        ({"kind": "blur", "sigma": [3, 0.2]}, "a range goes from low to high"),
        ({"kind": "jpeg", "quality": [0, 50]}, "data.degradation.quality.0: found 0, expected"),
        ({"kind": "jpeg", "qualty": [10, 50]}, "did you mean quality?"),
        (
            {"kind": "chain", "stages": [{"kind": "noise", "sigme": 1}]},
            "data.degradation.stages.0.sigme: no such field (found 1), did you mean sigma?",
        ),
        ({"kind": "resize", "ratio": [1.2, 1.5]}, "ratio goes from at most 1 to at least 1"),
    ],
)
def test_a_wrong_setting_is_one_line(section: dict[str, object], words: str) -> None:
    from srdist.config import parse
    from srdist.machine.errors import UserError

    with pytest.raises(UserError) as refused:
        parse({"data": {"degradation": section}}, source="run.yaml")
    assert words in str(refused.value)
    assert len(str(refused.value).split("; ")) == 1


def test_reading_a_config_of_stages_imports_neither_torch_nor_opencv() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from srdist.config import load; "
        "load(None, ['data.degradation.kind=jpeg']); print('torch' in sys.modules, 'cv2' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
