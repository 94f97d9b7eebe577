"""How every model is trained: one loop, its batches, and several processes at once."""

from undersong.relations import Task
from undersong.training.distributed import all_gather, broadcast, process_group, rank, shard
from undersong.training.loop import (
    Compute,
    History,
    Schedule,
    anchors_with_partners,
    lr_factor,
    mixed_precision,
    train,
)

__all__ = [
    "Compute",
    "History",
    "Schedule",
    "Task",
    "all_gather",
    "anchors_with_partners",
    "broadcast",
    "lr_factor",
    "mixed_precision",
    "process_group",
    "rank",
    "shard",
    "train",
]
