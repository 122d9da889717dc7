"""Partners of the synapses whose first voxel lies in a block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

import pandas as pd

from cnapse.geometry import Box, Triple, triple
from cnapse.partners.assign import AssignParameters, assign_many, cutout_box
from cnapse.tables import parquet_bytes, SYNAPSES, read_parquet
from cnapse_tasks.run import Run
from cnapse_tasks.stages import Cost
from cnapse_tasks.tabulate import parts_of
