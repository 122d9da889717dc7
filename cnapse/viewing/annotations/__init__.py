"""Precomputed annotation layers for Neuroglancer: lines and points, sharded, of any size.

In one process: `write_annotations`. In many: `survey_part` of each part of the table,
`merge_surveys`, `plan_layer`, `map_part` of each part, `reduce_shard` of each shard, `layer_info`.
"""

from __future__ import annotations

from cnapse.viewing.annotations.fragments import Fragment, map_part
from cnapse.viewing.annotations.plan import Index, Plan, WriteOptions, layer_info, plan_layer
from cnapse.viewing.annotations.schema import AnnotationSchema, Kind, Property, PropertyType
from cnapse.viewing.annotations.shards import ShardOutput, reduce_shard
from cnapse.viewing.annotations.survey import Survey, merge_surveys, survey_part
from cnapse.viewing.annotations.table import AnnotationTable, Related
from cnapse.viewing.annotations.writer import Written, prepare_folder, write_annotations

__all__ = [
    "AnnotationSchema",
    "AnnotationTable",
    "Fragment",
    "Index",
    "Kind",
    "Plan",
    "Property",
    "PropertyType",
    "Related",
    "ShardOutput",
    "Survey",
    "WriteOptions",
    "Written",
    "layer_info",
    "map_part",
    "merge_surveys",
    "plan_layer",
    "prepare_folder",
    "reduce_shard",
    "survey_part",
    "write_annotations",
]
