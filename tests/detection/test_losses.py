import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cnapse.detection.losses import LossWeights, cross_entropy, dice_loss, total_loss

seeds = st.integers(0, 2**32)


def drawn(seed, shape=(2, 7, 5)):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, shape)
    return logits, rng.random(shape) < 0.3, rng.random(shape) < 0.7


def tensors(*arrays):
    return [torch.from_numpy(array) for array in arrays]


def probability(logits):
    return 1 / (1 + np.exp(-logits))


def plain_entropy(logits, target, counts, background=1.0, density=1.0):
    p = probability(logits)[counts]
    t = target[counts]
    weight = np.where(t, density, background)
    return (weight * -np.log(np.where(t, p, 1 - p))).sum() / weight.sum()


def plain_dice(logits, target, counts):
    p, t = probability(logits)[counts], target[counts].astype(float)
    return 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, background=st.floats(0.1, 5), density=st.floats(0.1, 50))
def test_losses_against_plain_numpy(seed, background, density):
    arrays = drawn(seed)
    found = cross_entropy(*tensors(*arrays), (background, density)).item()
    assert found == pytest.approx(plain_entropy(*arrays, background, density), rel=1e-6)
    assert dice_loss(*tensors(*arrays)).item() == pytest.approx(plain_dice(*arrays), rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, share=st.floats(0.001, 0.999))
def test_only_the_hardest_background_counts(seed, share):
    logits, target, counts = drawn(seed)
    background = np.flatnonzero(counts & ~target)
    order = background[np.argsort(-logits.flat[background])]
    kept = counts & target
    kept.flat[order[: int(share * (len(order) - 1)) + 1]] = True
    found = cross_entropy(*tensors(logits, target, counts), hardest=share).item()
    assert found == pytest.approx(plain_entropy(logits, target, kept), rel=1e-6)
    nothing = torch.zeros(target.shape, dtype=torch.bool)
    assert cross_entropy(*tensors(logits, target), nothing, hardest=share).item() == 0


@settings(max_examples=25, deadline=None)
@given(seed=seeds, bce=st.floats(0, 2), dice=st.floats(0, 2), auxiliary=st.floats(0, 2))
def test_the_total_is_the_sum_of_its_weighted_parts(seed, bce, dice, auxiliary):
    logits, label, counts = drawn(seed)
    other, membrane, _ = drawn(seed + 1)
    both = torch.from_numpy(np.stack([logits, other], axis=1))
    weights = LossWeights(bce, dice, auxiliary, 1.0, 3.0)
    total, parts = total_loss(both, *tensors(label, counts, membrane), weights)
    expected = (
        bce * plain_entropy(logits, label, counts, 1.0, 3.0)
        + dice * plain_dice(logits, label, counts)
        + auxiliary * plain_entropy(other, membrane, counts)
    )
    assert total.item() == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert sorted(parts) == ["auxiliary", "bce", "dice"]
    alone, names = total_loss(both[:, :1], *tensors(label, counts), None, weights)
    assert "auxiliary" not in names
    rest = auxiliary * plain_entropy(other, membrane, counts)
    assert alone.item() == pytest.approx(expected - rest, rel=1e-6, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, wild=st.sampled_from([0.0, 1e4, -1e4, np.nan, np.inf]))
def test_what_is_ignored_gives_neither_loss_nor_gradient(seed, wild):
    logits, label, counts = drawn(seed, (2, 2, 6, 6))
    counts, auxiliary = counts[:, 0], label[:, 1]
    results = []
    for value, flip in [(0.5, False), (wild, True)]:
        changed = logits.copy()
        changed[np.broadcast_to(~counts[:, None], logits.shape)] = value
        leaf = torch.from_numpy(changed).requires_grad_(True)
        drawings = [np.where(counts, a, ~a if flip else a) for a in (label[:, 0], auxiliary)]
        first, second = tensors(*drawings)
        total, _ = total_loss(leaf, first, torch.from_numpy(counts), second, LossWeights())
        total.backward()
        results.append((total.item(), leaf.grad.numpy()))
    assert results[0][0] == results[1][0]
    np.testing.assert_array_equal(results[0][1], results[1][1])
    ignored = np.broadcast_to(~counts[:, None], logits.shape)
    assert not results[1][1][ignored].any()
    assert results[1][1][~ignored].all()


def test_nothing_counts_nothing():
    logits, label, counts = tensors(*drawn(0))
    leaf = logits.requires_grad_(True)
    total, parts = total_loss(
        leaf[:, None], label, torch.zeros_like(counts), None, LossWeights(dice=0.0)
    )
    total.backward()
    assert total.item() == parts["bce"] == parts["dice"] == 0
    assert not leaf.grad.any()


def test_a_weight_of_0_leaves_a_part_out():
    logits = torch.tensor([[[[torch.nan, 0.0]]]])
    label = torch.tensor([[[False, True]]])
    counts = torch.ones_like(label)
    total, _ = total_loss(logits[..., 1:], label[..., 1:], counts[..., 1:], None, LossWeights())
    assert total.isfinite()
    only, parts = total_loss(
        logits[..., 1:], label[..., 1:], counts[..., 1:], None, LossWeights(bce=1, dice=0)
    )
    assert only.item() == parts["bce"] == pytest.approx(np.log(2))
