"""Export to Parquet: one row per item, the vector as a list of fixed size."""

import json
from pathlib import Path

from undersong.exports.place import placing
from undersong.exports.rows import Rows

KEY = "undersong.export"
ROW_GROUP = 16384


def write_parquet(rows: Rows, out: Path, *, force: bool = False) -> None:
    """Write id, name, what is known, and vector as a fixed-size list of float32.

    The file's own metadata holds ``rows.origin`` as JSON under the key ``undersong.export``.

    Raises
    ------
    DataError
        If something foreign stands at ``out`` and not ``force``.
    """
    about = rows.origin | {"target": "parquet"}
    with placing(out, about, force=force) as (temporary,):
        rows.frame.sink_parquet(
            temporary, metadata={KEY: json.dumps(about)}, row_group_size=ROW_GROUP
        )
