"""The test tunes of a run, kept in the run.

A corpus may be built again, by a later version or from more tunes, and then be split in another way. What a
run is judged by must not follow: a tune that it was trained on would be among the new test tunes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from reelmill import durable
from reelmill.errors import DamagedError
from reelmill.training.checkpoints import Checkpoint

TEST_TUNES = "test.parquet"


def keep_test_tunes(run: Path, tunes: Any) -> None:
    """Write the ``text`` of a data set of tunes into ``run``."""
    schema = pyarrow.schema([("text", pyarrow.string())])
    with (
        durable.replacing(run / TEST_TUNES) as partial,
        pyarrow.parquet.ParquetWriter(partial, schema) as file,
    ):
        for batch in tunes.iter(batch_size=1000):
            file.write_table(pyarrow.table({"text": batch["text"]}, schema=schema))


def read_test_tunes(run: Path, checkpoint: Checkpoint) -> list[str]:
    """The tunes held out since the run began; DamagedError if they are not those of ``checkpoint``."""
    path = run / TEST_TUNES
    if not path.is_file():
        raise DamagedError(f"{path}: missing; a file of other tunes can be scored with --abc")
    if durable.sha256(path) != checkpoint.state.get("test_sha256"):
        raise DamagedError(f"{path}: not the tunes that were held out when {checkpoint.name} was trained")
    texts: list[str] = pyarrow.parquet.read_table(path, columns=["text"]).column("text").to_pylist()
    return texts
