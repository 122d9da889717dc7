"""Reviewing a million candidates: listing, filtering, sorting, claiming, and the log.

    python benchmarks/review.py --quick
    python benchmarks/review.py [--json rows.json]

The tables are made up (a million synapses, three partners each) and written as a run writes them; a
twentieth of the synapses is decided. Every figure of a query is the worst of several, each with
other limits, a page of 200 as JSON included; "first" is the first of its order, which sorts. The
peer is pandas on the same tables in memory. Memory is what loading and all queries add to this
process at the highest.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from _rows import Row, parser, report

from cnapse.config import Config
from cnapse.review.assignment import Request, claim_next
from cnapse.review.decisions import Verdict, VerdictDecision
from cnapse.review.items import ORDERS, Candidates, Filter, Order
from cnapse.review.log import DecisionLog
from cnapse.review.standing import Standing
from cnapse.runs import RunData
from cnapse.tables import PARTNERS, SYNAPSES, filled, read_table, validate, write_table

_FULL, _QUICK = 1_000_000, 100_000
_PARTNERS = 3
_DECIDED = 20
_PAGE = 200
_TIMES = 7
_APPENDS = 200
_CLAIMS = 20


def make_tables(n: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(3)
    ids = np.sort(rng.choice(10 * n, n, replace=False)).astype(np.uint64) + np.uint64(1)
    cells = rng.integers(1, n // 100, n).astype(np.uint64)
    start = rng.integers(0, 40_000, (n, 3))
    probability = rng.beta(5, 1, n)
    synapses = pd.DataFrame(
        {
            "syn_id": ids, "pre": np.char.add("cell ", cells.astype(str)), "pre_id": cells,
            "size": rng.lognormal(13, 0.7, n), "voxels": 500, "sections": rng.integers(2, 9, n),
            "flags": 1 << rng.integers(0, 12, n) & 511, "mean_probability": probability,
            "doubt": rng.random(n), "doubts": "lost 0.31|probability 0.22", "n_partners": 3,
            "link": "https://neuroglancer-demo.appspot.com/#!" + "x" * 200,
        }
        | {f"{axis}_pos": start[:, i] * 8.0 for i, axis in enumerate("xyz")}
        | {f"start_{axis}": start[:, i] for i, axis in enumerate("xyz")}
        | {f"stop_{axis}": start[:, i] + 20 for i, axis in enumerate("xyz")}
    )  # fmt: skip
    pairs = pd.DataFrame(
        {
            "syn_id": np.repeat(ids, _PARTNERS),
            "post_id": rng.integers(1, n // 100, n * _PARTNERS).astype(np.uint64),
        }
    )
    return validate(filled(synapses, SYNAPSES), SYNAPSES), validate(
        filled(pairs, PARTNERS), PARTNERS
    )


def worst_ms(calls: Iterator[Callable[[], object]]) -> float:
    seconds = []
    for call in calls:
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return 1000 * max(seconds)


def highest_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def filters(candidates: Candidates) -> dict[str, list[Filter]]:
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 200_000, (_TIMES, 3))
    cells = candidates.columns["pre_id"][:_TIMES].tolist()
    return {
        "size and doubt": [
            Filter(min_size=1e5 * i, max_size=2e6, min_doubt=0.1 * i) for i in range(_TIMES)
        ],
        "a cell's": [Filter(cell=cell) for cell in cells],
        "a flag": [Filter(flag=name) for name in ("border", "near_cut", "many_lost")],
        "open ones": [Filter(verdict="open", min_doubt=0.1 * i) for i in range(_TIMES)],
        "false ones": [Filter(verdict="false", min_doubt=0.1 * i) for i in range(_TIMES)],
        "a box": [Filter(box_nm=(tuple(a.tolist()), tuple((a + 9000).tolist()))) for a in low],
    }


def queries(candidates: Candidates, standing: Standing, n: int) -> Iterator[Row]:
    def listed(order: Order, where: Filter) -> object:
        rows = candidates.select(order, where, standing=standing)
        return candidates.page(rows[:_PAGE], standing)

    for order in ORDERS:
        first = worst_ms(iter([lambda order=order: listed(order, Filter())]))
        again = worst_ms((lambda order=order: listed(order, Filter())) for _ in range(_TIMES))
        yield Row(f"{n:,} by {order}, first", first, "ms")
        yield Row(f"{n:,} by {order}, again", again, "ms")
    for name, some in filters(candidates).items():
        ms = worst_ms((lambda where=where: listed("doubt", where)) for where in some)
        yield Row(f"{name} of {n:,}, by doubt", ms, "ms")


def beside_pandas(rows: Iterable[Row], folder: Path) -> Iterator[Row]:
    """The same of pandas, with the table in memory."""
    table = read_table(folder / "tables/synapses")

    def listed(chosen: pd.DataFrame) -> object:
        ordered = chosen.sort_values("doubt", ascending=False, kind="stable")
        return ordered.head(_PAGE).to_dict("records")

    def filtered() -> object:
        return listed(table[table["size"].between(1e5, 2e6) & (table["doubt"] >= 0.1)])

    for row in rows:
        call = {"by doubt, again": lambda: listed(table), "size and doubt": filtered}
        same = next((call[name] for name in call if name in row.work), None)
        theirs = None if same is None else worst_ms(same for _ in range(3))
        yield row if theirs is None else Row(row.work, row.ours, row.unit, "pandas", theirs)


def logging(log: DecisionLog, candidates: Candidates) -> Iterator[Row]:
    def append(i: int) -> Callable[[], object]:
        made = VerdictDecision(reviewer="b", syn_id=i + 1, new=Verdict(verdict="true"))
        return lambda: log.append(made)

    began = time.perf_counter()
    worst = worst_ms(append(i) for i in range(_APPENDS))
    yield Row("decisions, each on the disk", _APPENDS / (time.perf_counter() - began), "1/s")
    yield Row("a decision, worst", worst, "ms")

    def told(i: int) -> Callable[[], object]:
        append(i)()
        return log.standing

    yield Row("what stands after one more, worst", worst_ms(told(i) for i in range(_TIMES)), "ms")
    for order in ORDERS:

        def claim(i: int, order: Order = order) -> Callable[[], object]:
            return lambda: claim_next(
                log, candidates, Request("candidates", f"r{i}", _CLAIMS, order=order)
            )

        claim(-1)()
        yield Row(f"claim {_CLAIMS} by {order}", worst_ms(claim(i) for i in range(_TIMES)), "ms")


def write_tables(folder: Path, n: int) -> None:
    for table, schema in zip(make_tables(n), (SYNAPSES, PARTNERS), strict=True):
        write_table(table, folder / f"tables/{schema.name}/part-0.parquet", schema)


def main() -> None:
    options = parser(__doc__.splitlines()[0], {}).parse_args()
    n = _QUICK if options.quick else _FULL
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # In a process of its own, whose memory does not count.
        maker = multiprocessing.get_context("spawn").Process(target=write_tables, args=(folder, n))
        maker.start()
        maker.join()
        rows = list(measure(folder, n))
        report(list(beside_pandas(rows, folder)), options.json)


def measure(folder: Path, n: int) -> Iterator[Row]:
    values = {"output": f"file://{folder}", "resolution": (8, 8, 40)}
    run = RunData(Config.from_dict(values | {"layers": {"synapses": "file:///nowhere"}}))
    before = highest_gb()
    began = time.perf_counter()
    candidates = Candidates.load(run)
    yield Row(f"load {n:,}", time.perf_counter() - began, "s")
    decided = candidates.ids[::_DECIDED].tolist()
    with DecisionLog(folder / "log.sqlite") as log:
        kinds = ("true", "true", "true", "false", "unsure")
        log.append_many(
            VerdictDecision(reviewer="a", syn_id=i, new=Verdict(verdict=kinds[i % 5]))
            for i in decided
        )
    with DecisionLog(folder / "log.sqlite") as log:
        began = time.perf_counter()
        standing = log.standing()
        yield Row(f"open a log of {len(decided):,}", time.perf_counter() - began, "s")
        yield from queries(candidates, standing, n)
        yield from logging(log, candidates)
    own = sum(column.nbytes for column in candidates.columns.values()) / 1e9
    note = f"numbers {own:.2f} GB"
    yield Row(f"memory of {n:,}, highest added", highest_gb() - before, "GB", note=note)


if __name__ == "__main__":
    sys.exit(main())
