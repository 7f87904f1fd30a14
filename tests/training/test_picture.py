"""The captions of a reconstruction's picture."""

import numpy as np

from training.picture import CAPTIONS, STRIP, add_captions


def test_every_panel_has_its_caption_above_it():
    picture = np.random.default_rng(0).integers(0, 256, (5, 4 * 256, 3), np.uint8)
    captioned = add_captions(picture)
    assert np.array_equal(captioned[STRIP:], picture)
    strips = [captioned[:STRIP, 256 * i : 256 * (i + 1)] for i in range(len(CAPTIONS))]
    ink = [int((strip < 128).sum()) for strip in strips]
    assert min(ink) > 0
    assert max(ink) == ink[CAPTIONS.index("reconstruction")]  # the longest word
    assert all((strip[:, -20:] == 255).all() for strip in strips)  # none reaches the next panel
