"""Training patches: what is in them is what was decided, and training takes them."""

import tomllib
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cnapse.analysis.groundtruth import Tiling
from cnapse.detection.datasets import load_source
from cnapse.detection.settings import LayerSource
from cnapse.errors import ReviewError
from cnapse.review.decisions import (
    AddDecision,
    AddedSynapse,
    BoxDecision,
    DeleteDecision,
    MergeDecision,
    Merging,
    ReviewedBox,
    Verdict,
    VerdictDecision,
)
from cnapse.review.items import Candidates
from cnapse.review.log import DecisionLog
from cnapse.review.patches import plan_patches, read_patches
from cnapse.review.standing import standing
from cnapse_cli.main import app

FIRST = 2**63


def verdict(i: int, answer: str, error: str | None = None) -> VerdictDecision:
    return VerdictDecision(reviewer="a", syn_id=FIRST + i, new=Verdict(verdict=answer, error=error))


def box_nm(reviewed, start, stop) -> ReviewedBox:
    low, high = (
        tuple((np.array(corner) + reviewed.box.start) * reviewed.box.resolution)
        for corner in (start, stop)
    )
    return ReviewedBox(start_nm=low, stop_nm=high)


def test_a_box_holds_all_that_is_known_of_it(reviewed) -> None:
    candidates = Candidates.load(reviewed.run)
    # In the middle of nothing, and on the object 1, whose verdict it does not change.
    missed = [
        tuple((np.array(place) + 0.5 + reviewed.box.start) * reviewed.box.resolution)
        for place in ((110, 50, 6), (44, 11, 4))
    ]
    now = standing(
        [
            verdict(0, "true"),
            verdict(1, "false"),
            verdict(2, "unsure"),
            verdict(3, "true", "wrong_extent"),
            verdict(4, "true"),
            verdict(5, "true"),
            DeleteDecision(reviewer="a", syn_id=FIRST + 4),
            MergeDecision(reviewer="a", new=Merging(syn_ids=(FIRST, FIRST + 5))),
            *(AddDecision(reviewer="a", new=AddedSynapse(position_nm=p)) for p in missed),
            BoxDecision(reviewer="a", new=box_nm(reviewed, (-9, 0, 0), (120, 100, 12))),
        ]
    )
    tiling = Tiling(patch=200, overlap=0)
    plan = plan_patches(reviewed.run, candidates, now, tiling)
    assert (len(plan.boxes), len(plan.around)) == (1, 0)
    (patch,) = read_patches(reviewed.run, candidates, now, plan)
    assert patch.box == reviewed.box
    assert (patch.image == reviewed.image).all()
    drawn = (reviewed.objects == FIRST) | (reviewed.objects == FIRST + 5)
    assert ((patch.label > 0) == drawn).all()
    # Merged ones are one object.
    assert patch.label.max() == 1
    open_ = (reviewed.objects == FIRST + 2) | (reviewed.objects == FIRST + 3)
    voxels = np.indices(reviewed.box.shape).reshape(3, -1).T + reviewed.box.start + 0.5
    around = np.zeros(reviewed.box.shape, bool)
    for place in missed:
        far = np.linalg.norm(voxels * reviewed.box.resolution - place, axis=1)
        near = (far <= 150).reshape(reviewed.box.shape)
        around |= near & ~drawn
    assert around.any()
    assert ((patch.ignore > 0) == (open_ | around)).all()


def test_candidates_have_patches_of_their_own(reviewed) -> None:
    candidates = Candidates.load(reviewed.run)
    now = standing(
        [verdict(0, "true"), verdict(1, "false"), verdict(2, "unsure"), verdict(5, "true")]
    )
    plan = plan_patches(reviewed.run, candidates, now, Tiling(patch=60))
    patches = list(read_patches(reviewed.run, candidates, now, plan))
    # The patch of the first holds the second, too.
    assert len(patches) == len(plan.around) == 2
    for patch, syn_id in zip(patches, (FIRST, FIRST + 5), strict=True):
        assert reviewed.box.contains(patch.box)
        assert patch.box.shape[:2] == (60, 60)
        here = reviewed.objects[patch.box.slices(reviewed.box)]
        assert (patch.image == reviewed.image[patch.box.slices(reviewed.box)]).all()
        assert ((patch.label > 0) == (here == syn_id)).all()
        assert (here == syn_id).sum() == 960
        undecided = np.isin(here, [FIRST + 2, FIRST + 3, FIRST + 4])
        assert ((patch.ignore if patch.ignore is not None else 0) == undecided).all()
    # An object has two sections more at each end, as far as there are any.
    assert [patch.box.shape[2] for patch in patches] == [7, 7]
    deep = plan_patches(reviewed.run, candidates, now, Tiling(patch=60, depth=9))
    assert [box.shape[2] for box in deep.around] == [9, 9]


def test_an_object_that_was_made_for_a_missed_synapse_is_drawn(reviewed) -> None:
    """As in the layer that `cnapse apply` writes, with the table of before."""
    candidates = Candidates.from_tables(reviewed.run.synapses.iloc[1:].reset_index(drop=True))
    place = tuple((np.array((10, 20, 3)) + reviewed.box.start) * reviewed.box.resolution)
    now = standing(
        [
            AddDecision(reviewer="a", new=AddedSynapse(position_nm=place)),
            BoxDecision(reviewer="a", new=box_nm(reviewed, (0, 0, 0), (30, 40, 6))),
        ]
    )
    plan = plan_patches(reviewed.run, candidates, now, Tiling())
    (patch,) = read_patches(reviewed.run, candidates, now, plan)
    assert (patch.label > 0).sum() == (reviewed.objects == FIRST).sum()
    assert patch.ignore is None


def test_nothing_decided(reviewed) -> None:
    candidates = Candidates.load(reviewed.run)
    with pytest.raises(ReviewError, match=r"^no patch to cut: decide candidates as true or false"):
        plan_patches(reviewed.run, candidates, standing([verdict(1, "unsure")]), Tiling())


def test_the_command_writes_what_training_reads(reviewed, tmp_path: Path) -> None:
    with DecisionLog(tmp_path / "log") as log:
        log.append_many(
            [
                verdict(0, "true"),
                verdict(5, "true"),
                BoxDecision(reviewer="a", new=box_nm(reviewed, (0, 0, 0), (50, 100, 12))),
            ]
        )
    done = CliRunner().invoke(
        app,
        ["groundtruth", "--from-review", str(reviewed.config), "--log", str(tmp_path / "log"),
         "-o", str(tmp_path / "truth.h5"), "--patch", "64", "--overlap", "16"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "2 patches of boxes that were looked at wholly, 1 around decided" in done.output
    lines = tomllib.loads((tmp_path / "truth.toml").read_text())["layers"]
    volumes = [load_source(LayerSource(**one), reviewed.box.resolution) for one in lines]
    assert [v.labels.shape for v in volumes] == [(50, 64, 12), (50, 64, 12), (64, 64, 7)]
    assert [len(v.densities) for v in volumes] == [1, 0, 1]
    assert volumes[0].ignore is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from-review", "{config}"], "--from-review makes patches: give --output"),
        (["em.tif", "--from-review", "{config}"], "--from-review takes image and labels from the "),
        (["--from-review", "{config}", "-o", "x.h5"], "no decisions at "),
        ([], "give IMAGE and one DRAWING or more, or --from-review cnapse.toml"),
    ],
)
def test_what_the_command_refuses(reviewed, arguments: list[str], message: str) -> None:
    filled_in = [word.format(config=reviewed.config) for word in arguments]
    done = CliRunner().invoke(app, ["groundtruth", *filled_in])
    assert done.exit_code == 1
    assert str(done.exception).startswith(message)
