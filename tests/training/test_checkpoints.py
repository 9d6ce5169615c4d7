"""Checkpoints: read safely, found by name, never half there."""

import pickle
import threading

import pytest
import torch

from reelmill import durable
from reelmill.errors import DamagedError, RequestError
from reelmill.runs import checkpoint_steps, find_checkpoint, load_model, newest_intact, read_tensors, verified
from reelmill.training import checkpoints
from reelmill.training.checkpoints import CheckpointWriter, Snapshot, copied, write_checkpoint
from reelmill.training.loop import train


def snapshot(step, **state):
    return Snapshot(step, {"w": torch.full((3,), float(step))}, {"optimizer": {}}, {"step": step, **state})


def test_copies_do_not_change_with_the_original():
    tensor = torch.zeros(3)
    taken = copied({"a": [tensor, (tensor, 1)], "b": {"c": "text"}})
    tensor += 1
    assert taken["b"] == {"c": "text"}
    assert not taken["a"][0].any()
    assert not taken["a"][1][0].any()


def test_names(tmp_path):
    for step in (100, 200, 300):
        write_checkpoint(tmp_path, snapshot(step, best_step=200))
    assert find_checkpoint(tmp_path).step == 200
    assert find_checkpoint(tmp_path, "best").step == 200
    assert find_checkpoint(tmp_path, "last").step == 300
    assert find_checkpoint(tmp_path, "step-000100").step == find_checkpoint(tmp_path, "100").step == 100
    for name in ("step-000150", "", "newest", "../100"):
        with pytest.raises(RequestError, match="step-000100, step-000200, step-000300"):
            find_checkpoint(tmp_path, name)


def test_reading_a_damaged_run_moves_nothing(tmp_path, caplog):
    for step in (100, 200, 300):
        write_checkpoint(tmp_path, snapshot(step, best_step=300))
    (tmp_path / "checkpoints" / "step-000300" / "optimizer.pt").unlink()
    assert find_checkpoint(tmp_path).step == 200
    assert "optimizer.pt: missing" in caplog.text
    assert checkpoint_steps(tmp_path) == [100, 200, 300]
    with pytest.raises(DamagedError, match=r"step-000300/optimizer\.pt"):
        find_checkpoint(tmp_path, "300")


def test_every_damaged_checkpoint_is_set_aside_once(tmp_path):
    for round_number in (1, 2):
        write_checkpoint(tmp_path, snapshot(100))
        (tmp_path / "checkpoints" / "step-000100" / "state.json").write_text("{}")
        assert newest_intact(tmp_path, set_aside=True) is None
        assert (tmp_path / "checkpoints" / f"step-000100.damaged-{round_number}").is_dir()


def test_a_manifest_that_lists_too_little_is_damage(tmp_path):
    with durable.creating_directory(tmp_path / "checkpoints" / "step-000005") as partial:
        durable.write_json(partial / "state.json", {"step": 5})
    with pytest.raises(DamagedError, match=r"does not list model\.safetensors"):
        verified(tmp_path, 5)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "state.json", "manifest.json"])
def test_any_flipped_bit_is_damage_or_changes_nothing(tmp_path, name):
    write_checkpoint(tmp_path, snapshot(5))
    path = tmp_path / "checkpoints" / "step-000005" / name
    whole = path.read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 500)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :])
        try:
            state = verified(tmp_path, 5).state
        except DamagedError as error:
            assert "step-000005" in str(error)
            continue
        assert name == "manifest.json"  # in which blanks mean nothing
        assert state == {"step": 5}


class Evil:
    def __reduce__(self):
        return exec, ("import pathlib; pathlib.Path('executed').touch()",)


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, 2))])
def test_code_in_a_checkpoint_is_not_executed(tmp_path, monkeypatch, save):
    monkeypatch.chdir(tmp_path)
    with durable.creating_directory(tmp_path / "checkpoints" / "step-000005") as partial:
        (partial / "model.safetensors").write_bytes(b"")
        durable.write_json(partial / "state.json", {"step": 5})
        save({"optimizer": Evil()}, partial / "optimizer.pt")
    with pytest.raises(DamagedError, match=r"optimizer\.pt"):
        read_tensors(verified(tmp_path, 5))
    assert not (tmp_path / "executed").exists()


def test_the_writer_keeps_the_last_ones_and_the_best(tmp_path):
    writer = CheckpointWriter(tmp_path, keep=2)
    for step in range(10, 80, 10):
        writer.submit(snapshot(step), best=30 if step >= 30 else None)
        writer.wait()
    assert checkpoint_steps(tmp_path) == [30, 60, 70]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "step-000030",
        "step-000060",
        "step-000070",
    ]


def test_a_stop_waits_for_what_is_being_written(tmp_path, slow_disk):
    writer = CheckpointWriter(tmp_path, keep=2)
    writer.submit(snapshot(10), best=None)
    assert checkpoint_steps(tmp_path) == []
    threading.Timer(0.2, slow_disk.go.set).start()
    writer.wait()
    assert verified(tmp_path, 10).step == 10


class SlowDisk:
    """Writes are held up until ``go``; it tells when one has begun, and in which order they were made."""

    def __init__(self, monkeypatch):
        self.begun, self.go = threading.Event(), threading.Event()
        self.written = []
        write = checkpoints.write_checkpoint

        def slowly(run, snapshot):
            self.begun.set()
            assert self.go.wait(60)
            write(run, snapshot)
            self.written.append(snapshot.step)

        monkeypatch.setattr(checkpoints, "write_checkpoint", slowly)


@pytest.fixture
def slow_disk(monkeypatch):
    disk = SlowDisk(monkeypatch)
    yield disk
    disk.go.set()


def test_a_slow_disk_does_not_hold_the_loop_up(tmp_path, slow_disk, caplog):
    writer = CheckpointWriter(tmp_path, keep=5)
    writer.submit(snapshot(10), best=None)
    assert slow_disk.begun.wait(60)
    for step in (20, 30, 40):  # returns, though nothing is written
        writer.submit(snapshot(step), best=None)
    assert checkpoint_steps(tmp_path) == []
    assert "training.checkpoint_every" in caplog.text
    slow_disk.go.set()
    writer.wait()
    assert slow_disk.written == checkpoint_steps(tmp_path) == [10, 40]


def test_the_best_is_written_however_slow_the_disk(tmp_path, slow_disk):
    writer = CheckpointWriter(tmp_path, keep=1)
    writer.submit(snapshot(10), best=10)
    assert slow_disk.begun.wait(60)
    best = None
    for step, best in ((20, 20), (30, 20), (40, 40), (50, 40), (60, 40)):
        writer.submit(snapshot(step, best_step=best), best=best)
    assert [waiting.step for waiting, _ in writer._waiting] == [40, 60]  # all that is in memory
    slow_disk.go.set()
    writer.wait()
    assert slow_disk.written == [10, 40, 60]
    assert checkpoint_steps(tmp_path) == [40, 60]
    assert find_checkpoint(tmp_path).step == best


def test_a_snapshot_of_the_same_step_gives_way_though_it_is_the_best(tmp_path, slow_disk):
    writer = CheckpointWriter(tmp_path, keep=2)
    writer.submit(snapshot(10), best=None)
    assert slow_disk.begun.wait(60)
    writer.submit(snapshot(20, finished=False), best=20)
    writer.submit(snapshot(20, finished=True), best=20)
    slow_disk.go.set()
    writer.wait()
    assert slow_disk.written == [10, 20]
    assert verified(tmp_path, 20).state["finished"]


def test_after_an_error_nothing_more_is_written(tmp_path, monkeypatch):
    writer = CheckpointWriter(tmp_path, keep=2)
    (tmp_path / "checkpoints").write_text("in the way")
    writer.submit(snapshot(10), best=None)
    with pytest.raises(OSError):
        writer.wait()
    assert not writer.failed


def test_a_later_checkpoint_of_the_same_step_takes_its_place(tmp_path):
    write_checkpoint(tmp_path, snapshot(10, finished=False))
    write_checkpoint(tmp_path, snapshot(10, finished=True))
    assert verified(tmp_path, 10).state["finished"]


def test_another_vocabulary_is_noticed(configured, tmp_path):
    train(configured("training.steps=1"), tmp_path)
    assert load_model(tmp_path).vocabulary.size > 10
    text = (tmp_path / "vocabulary.json").read_text()
    (tmp_path / "vocabulary.json").write_text(text.replace('"A", "B"', '"B", "A"'))
    with pytest.raises(DamagedError, match=r"vocabulary\.json: not the vocabulary that step-000001"):
        load_model(tmp_path)
    (tmp_path / "vocabulary.json").unlink()
    with pytest.raises(DamagedError, match=r"vocabulary\.json: missing"):
        load_model(tmp_path)
