"""Critics: the published sizes, a judgement of each image for itself, first weights made of a seed alone."""

from __future__ import annotations

import pytest
import torch

from srdist.losses.contest import CriticSection, PatchCriticConfig, UNetCriticConfig

THIN = [UNetCriticConfig(width=4), PatchCriticConfig(width=4, layers=2)]
every_critic = pytest.mark.parametrize("section", THIN, ids=lambda section: section.family)


def test_the_unet_has_the_size_of_real_esrgans_and_the_patch_critic_that_of_pix2pix() -> None:
    counts = [
        sum(parameter.numel() for parameter in section.build(seed=0).parameters())
        for section in (UNetCriticConfig(), PatchCriticConfig())
    ]
    # Published: 4,376,897; pix2pix's 2,764,737 without the biases and scales of its batch norms, and with those of convolutions.
    assert counts == [4_376_897, 2_764_737]


@every_critic
@pytest.mark.parametrize(("height", "width"), [(24, 32), (25, 37)])
def test_each_image_is_judged_for_itself_at_any_size(section: CriticSection, height: int, width: int) -> None:
    critic = section.build(seed=0).eval()
    images = torch.rand(3, 3, height, width, generator=torch.Generator().manual_seed(1))
    judged = critic(images)
    assert judged.shape[:2] == (3, 1)
    if section.family == "unet":
        assert judged.shape[2:] == (height, width)
    for image, alone in zip(images, judged, strict=True):
        torch.testing.assert_close(critic(image[None])[0], alone)
    smallest = section.smallest_patch
    assert critic(torch.rand(1, 3, smallest, smallest)).numel() > 0


@every_critic
def test_first_weights_are_made_of_the_seed_alone_and_leave_no_trace(section: CriticSection) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = section.build(seed=1).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    again, other = section.build(seed=1).state_dict(), section.build(seed=2).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert not all(torch.equal(tensor, other[name]) for name, tensor in first.items())


@every_critic
def test_a_pass_in_training_moves_the_vectors_of_spectral_norm_and_one_in_evaluation_does_not(
    section: CriticSection,
) -> None:
    critic, images = section.build(seed=0), torch.rand(2, 3, 24, 24)
    before = {name: buffer.clone() for name, buffer in critic.named_buffers()}
    assert before
    critic.eval()(images)
    assert all(torch.equal(buffer, before[name]) for name, buffer in critic.named_buffers())
    critic.train()(images)
    assert not all(torch.equal(buffer, before[name]) for name, buffer in critic.named_buffers())
    unnormed = section.model_copy(update={"spectral_norm": False}).build(seed=0)
    assert list(unnormed.buffers()) == []
