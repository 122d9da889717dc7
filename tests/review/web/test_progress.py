"""Progress counts what the lists show, whatever was decided."""

import uuid

from hypothesis import given, settings
from hypothesis import strategies as st

from cnapse.review.assignment import Request
from cnapse.review.decisions import parse_decision
from cnapse.review.log import DecisionLog
from cnapse.review.web.desk import Desk
from cnapse.review.web.progress import Tally, progress
from cnapse.review.web.schemas import Wanted

FIRST = 2**63
# The last was decided about in another run.
IDS = st.integers(FIRST, FIRST + 6)
PARTNERS = st.sets(st.integers(1, 3), max_size=2)


@st.composite
def decided(draw):
    action = draw(st.sampled_from(["verdict", "partners", "delete", "merge", "undo"]))
    syn_id = draw(IDS)
    if action == "verdict":
        return action, syn_id, {"verdict": draw(st.sampled_from(["true", "false", "unsure"]))}
    if action == "partners":
        partners = [{"post_id": str(i)} for i in sorted(draw(PARTNERS))]
        return action, syn_id, {"pre_id": draw(st.sampled_from(["0", "5"])), "partners": partners}
    if action == "merge":
        others = draw(st.sets(IDS, min_size=2, max_size=3))
        return action, min(others), {"syn_ids": [str(i) for i in sorted(others)]}
    if action == "undo":
        return action, 0, {"undoes": draw(st.integers(0, 20))}
    return action, syn_id, {}


@settings(max_examples=30, deadline=None)
@given(st.lists(decided(), max_size=20))
def test_progress_counts_what_the_lists_show(reviewed, tmp_path_factory, made) -> None:
    with DecisionLog(tmp_path_factory.mktemp("log") / "log.sqlite") as log:
        desk = Desk(reviewed.run, log)
        uuids: list[str] = []
        for action, syn_id, said in made:
            if action == "undo" and not uuids:
                continue
            new = {"undoes": uuids[said["undoes"] % len(uuids)]} if action == "undo" else said
            uuids.append(str(uuid.uuid4()))
            record = {"uuid": uuids[-1], "action": action, "syn_id": str(syn_id), "new": new}
            log.append(parse_decision(record | {"reviewer": "Ann"}))
        told = progress(desk, Tally())

        def listed(verdict, loop="candidates"):
            return len(desk.rows(Wanted(verdict=verdict), loop))

        candidates, partners = told["candidates"], told["partners"]
        for name, verdict in [
            ("left", "open"),
            *((v, v) for v in ("decided", "true", "false", "unsure")),
        ]:
            assert candidates[name] == listed(verdict), name
        assert partners["total"] == listed("all", "partners")
        assert partners["decided"] == listed("decided", "partners")
        assert partners["left"] == listed("open", "partners")
        assert told["total"] == 6 == candidates["decided"] + candidates["left"]
        # What is handed out is what is left.
        for loop, left in (("candidates", candidates["left"]), ("partners", partners["left"])):
            assert len(desk.claim(Request(loop, "Ann", 10))) == left
        # The table has neither cells nor partners.
        standing = log.standing()
        shown = {
            int(one["syn_id"])
            for one in desk.page(desk.rows(Wanted(verdict="decided"), "partners"))
        }
        as_computed = [
            i for i in shown
            if standing.partners[i].new.pre_id == 0 and not standing.partners[i].new.partners
        ]  # fmt: skip
        assert partners["confirmed"] == len(as_computed)
        assert partners["corrected"] == partners["decided"] - len(as_computed)
