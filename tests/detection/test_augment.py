import numpy as np
import pytest

from cnapse.detection.augment import AUGMENTATIONS, augmented, blackpad, block, darkline
from cnapse.errors import ConfigError

MOVES = ("flip", "rotate90")


def pair(shape=(48, 64), seed=0):
    rng = np.random.default_rng(seed)
    label = rng.random(shape) < 0.3
    image = np.where(label, 200, 100).astype(np.uint8)
    return image, label


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("shape", [(48, 64), (48, 48)])
def test_an_augmentation_is_pure_and_repeats(name, shape):
    image, label = pair(shape)
    kept = image.copy(), label.copy()
    changed = False
    for seed in range(8):
        first = AUGMENTATIONS[name](image, label, np.random.default_rng(seed))
        again = AUGMENTATIONS[name](image, label, np.random.default_rng(seed))
        for a, b in zip(first, again, strict=True):
            np.testing.assert_array_equal(a, b)
        assert first[0].shape == first[1].shape == shape
        assert first[0].dtype == np.uint8
        assert first[1].dtype == bool
        changed |= not np.array_equal(first[0], image)
    assert changed
    np.testing.assert_array_equal(image, kept[0])
    np.testing.assert_array_equal(label, kept[1])


@pytest.mark.parametrize("name", MOVES)
def test_moves_keep_image_and_label_together(name):
    image, label = pair((48, 48))
    for seed in range(8):
        moved, marked = AUGMENTATIONS[name](image, label, np.random.default_rng(seed))
        np.testing.assert_array_equal(moved == 200, marked)


@pytest.mark.parametrize("name", [n for n in AUGMENTATIONS if n not in (*MOVES, "blackpad")])
def test_changes_of_grey_values_leave_the_label(name):
    image, label = pair()
    for seed in range(8):
        _, marked = AUGMENTATIONS[name](image, label, np.random.default_rng(seed))
        np.testing.assert_array_equal(marked, label)


def test_nothing_is_marked_where_a_section_ends():
    image, label = pair()
    for seed in range(8):
        black, marked = blackpad(image, label, np.random.default_rng(seed))
        assert (black == 0).any()
        np.testing.assert_array_equal(marked, label & (black != 0))


def test_dark_lines_darken_and_blocks_are_flat():
    image, label = pair()
    for seed in range(8):
        assert (darkline(image, label, np.random.default_rng(seed))[0] <= image).all()
        covered = block(image, label, np.random.default_rng(seed))[0] != image
        assert covered.mean() <= 1 / 16


def test_chances():
    image, label = pair()
    rng = np.random.default_rng(0)
    same, marked = augmented(image, label, rng, {})
    np.testing.assert_array_equal(same, image)
    np.testing.assert_array_equal(marked, label)
    assert not np.array_equal(augmented(image, label, rng, {"noise": 1.0})[0], image)
    with pytest.raises(ConfigError, match="'blur' is not known; there are: flip"):
        augmented(image, label, rng, {"blur": 1.0})
