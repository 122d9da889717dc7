import numpy as np
import pytest
import torch

from cnapse.detection.averaging import WeightAverage
from cnapse.detection.schedule import learning_rate, stream


def rates(steps=100, **options):
    return np.array([learning_rate(step, steps, highest=2.0, **options) for step in range(steps)])


def test_warm_up_and_decay():
    cosine = rates(warmup=10)
    np.testing.assert_allclose(cosine[:10], 2 * np.arange(1, 11) / 10)
    share = np.arange(90) / 90
    np.testing.assert_allclose(cosine[10:], 1 + np.cos(np.pi * share), atol=1e-12)
    np.testing.assert_allclose(rates(warmup=10, decay="linear")[10:], 2 * (1 - share))
    assert (rates(warmup=10, decay="constant")[10:] == 2).all()
    assert rates(steps=10, warmup=50)[4:6] == pytest.approx([2, 2])
    assert learning_rate(0, 1, highest=1.0, warmup=5) == 1.0


def test_streams_differ_by_seed_and_number():
    drawn = {stream(seed, number).random() for seed in range(3) for number in (0, 1, 1 << 40)}
    assert len(drawn) == 9
    assert stream(1, 2).random() == stream(1, 2).random()


def walk(steps=50):
    rng = np.random.default_rng(0)
    return [{"w": torch.from_numpy(rng.normal(size=3)), "n": torch.tensor(i)} for i in range(steps)]


def test_late_average_is_the_mean():
    average = WeightAverage("late", first=30)
    for step, weights in enumerate(walk()):
        average.update(weights, step)
        if step < 30:
            assert torch.equal(average.of(weights)["w"], weights["w"])
    mean = np.mean([weights["w"].numpy() for weights in walk()[30:]], axis=0)
    np.testing.assert_allclose(average.of({})["w"].numpy(), mean, rtol=1e-12)
    assert average.of({})["n"] == 49


def test_exponential_average_forgets_the_start():
    average = WeightAverage("exponential", decay=0.9)
    expected = None
    for step, weights in enumerate(walk()):
        average.update(weights, step)
        decay = min(0.9, (1 + step) / (10 + step))
        new = weights["w"].numpy()
        expected = new if expected is None else decay * expected + (1 - decay) * new
    np.testing.assert_allclose(average.of({})["w"].numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("kind", ["none", "late", "exponential"])
def test_averages_go_on_from_their_state(kind):
    whole, first, second = (WeightAverage(kind, 0.9, 10) for _ in range(3))
    for step, weights in enumerate(walk()):
        whole.update(weights, step)
        (first if step < 20 else second).update(weights, step)
        if step == 19:
            second.restore(first.state())
    last = walk()[-1]
    assert torch.equal(whole.of(last)["w"], second.of(last)["w"])
    kept = whole.of(last)
    kept["w"].zero_()
    assert whole.of(last)["w"].any()
