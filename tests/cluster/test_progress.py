"""What counts as progress: whatever a job has made that lies on disk."""

from __future__ import annotations

import json
from pathlib import Path

from reelmill.cluster.node.progress import progress


def manifest(songs: Path, number: int, share: str, half: str = "text") -> Path:
    path = songs / half / f"shard-{number:06d}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"made_by": {"share": share}}))
    return path


def test_shards_of_others_count_for_the_task_that_made_them(tmp_path: Path) -> None:
    job = {"stage": "generate", "directory": str(tmp_path), "first": 0, "tasks": 4}

    def seen(task: int) -> int:
        return progress(job, {"SLURM_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": str(task)})

    manifest(tmp_path, 1, "1/4")
    manifest(tmp_path, 1, "3/4", "audio")  # of its share, whoever made it
    assert [seen(task) for task in range(4)] == [0, 2, 0, 1]
    for number in (6, 10, 14):  # taken over
        manifest(tmp_path, number, "1/4")
    assert [seen(task) for task in range(4)] == [0, 5, 3, 1]
    manifest(tmp_path, 18, "1/4").write_text("{")  # torn, and of another share
    assert [seen(task) for task in range(4)] == [0, 5, 4, 1]
