"""The archive is made by the real comet_ml, offline, and read as `comet upload` would read it."""

import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from reelmill.cli import main
from reelmill.tracking.comet import Publisher, make_archive
from reelmill.tracking.metrics import MetricsLog
from reelmill.tracking.settings import TrackingSettings

OFFLINE = TrackingSettings(online=False)
ABC = "X:1\nT:Ünïcode <script>\nM:6/8\nK:Ddor\nDEF GAB|\n"
PARAMETERS = {"training": {"learning_rate": 0.002, "steps": 6}, "corpus": {"source": ["irish"]}}


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("COMET_"):
            monkeypatch.delenv(name)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


class Archive:
    """An offline archive's messages and files."""

    def __init__(self, path: Path) -> None:
        with zipfile.ZipFile(path) as contents:
            self.files = {name: contents.read(name) for name in contents.namelist()}
        self.experiment = json.loads(self.files["experiment.json"])
        self.messages = [json.loads(line) for line in self.files["messages.json"].splitlines()]

    def payloads(self, kind: str) -> list[dict[str, Any]]:
        return [message["payload"] for message in self.messages if message["type"] == kind]

    def metrics(self) -> list[tuple[str, int, float]]:
        metrics = [payload["metric"] for payload in self.payloads("metric_msg")]
        return [  # Comet adds "process duration" of its own
            (metric["metricName"], metric["step"], metric["metricValue"])
            for metric in metrics
            if "/" in metric["metricName"]
        ]

    def parameters(self) -> dict[str, Any]:
        parameters = [payload["param"] for payload in self.payloads("parameter_msg")]
        return {item["paramName"]: item["paramValue"] for item in parameters}

    def uploads(self, kind: str) -> list[tuple[str, bytes]]:
        return [
            (payload["additional_params"]["fileName"], self.files[payload["file_path"]])
            for payload in self.payloads("file_upload")
            if payload["upload_type"] == kind
        ]


def experiment_key(run: Path) -> Any:
    return json.loads((run / "comet" / "experiment.json").read_text())["key"]


def write_metrics(run: Path, steps: range) -> None:
    log = MetricsLog(run / "metrics.jsonl")
    for step in steps:
        log.append(step, loss=1 / step, learning_rate=0.002)
        if step % 2 == 0:
            log.append(step, kind="evaluation", bits_per_char=2 / step)
    log.close()


def test_everything_reaches_the_archive_and_nothing_about_the_machine_does(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "demo"
    write_metrics(run, range(1, 5))
    (run / "results.csv").write_text("title,key\nThe Reel,D\n")
    publisher = Publisher(run, OFFLINE, PARAMETERS)
    publisher.publish()
    samples = (np.sin(np.arange(4410) / 20) * 9000).astype(np.int16)
    publisher.log_song("step 4/song 0", ABC, np.stack([samples, samples], axis=1), step=4)
    publisher.log_table(run / "results.csv")
    path = publisher.close()
    assert path is not None and path.parent == run / "comet"
    archive = Archive(path)

    assert archive.experiment["project_name"] == "reelmill"
    assert archive.experiment["offline_id"] == path.stem == experiment_key(run)
    expected = {("train/loss", step, 1 / step) for step in range(1, 5)}
    expected |= {("train/learning_rate", step, 0.002) for step in range(1, 5)}
    expected |= {("evaluation/bits_per_char", step, 2 / step) for step in (2, 4)}
    assert set(archive.metrics()) == expected and len(archive.metrics()) == len(expected)
    assert archive.parameters()["training.learning_rate"] == 0.002
    assert archive.parameters()["corpus.source"] == '["irish"]'
    assert [data.decode() for _, data in archive.uploads("text-sample")] == [ABC]
    ((audio_name, audio),) = archive.uploads("audio")
    assert audio_name.endswith(".flac")
    heard, rate = soundfile.read(io.BytesIO(audio), dtype="int16")
    assert rate == 44100 and (heard == samples[:, None]).all()
    assert archive.uploads("asset") == [("results.csv", b"title,key\nThe Reel,D\n")]
    others = {payload["key"]: payload["value"] for payload in archive.payloads("log_other")}
    assert others["Name"] == "demo"

    expected_types = {"log_other", "parameter_msg", "metric_msg", "file_upload"}
    assert {message["type"] for message in archive.messages} <= expected_types
    host = os.uname().nodename.encode()
    assert len(host) < 4 or not any(host in data for data in archive.files.values())
    assert not [item for item in (run / "comet").iterdir() if item.name.startswith(".")]


def test_a_killed_job_costs_the_archive_nothing(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_metrics(run, range(1, 6))
    code = (
        "import os, pathlib, signal, sys\n"
        "from reelmill.tracking.comet import Publisher\n"
        "from reelmill.tracking.settings import TrackingSettings\n"
        "publisher = Publisher(pathlib.Path(sys.argv[1]), TrackingSettings(online=False), {'a': 1})\n"
        "publisher.publish(); publisher.log_song('song', 'X:1')\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(run)], timeout=60)
    assert killed.returncode == -signal.SIGKILL
    first = Archive(make_archive(run))
    assert {step for _, step, _ in first.metrics()} == {1, 2, 3, 4, 5}

    MetricsLog(run / "metrics.jsonl").cut_back(3)  # the checkpoint the next job resumes from
    write_metrics(run, range(4, 8))
    publisher = Publisher(run, OFFLINE, {"a": 1})
    path = publisher.close()
    assert path is not None
    second = Archive(path)
    losses = [step for name, step, _ in second.metrics() if name == "train/loss"]
    assert losses == [1, 2, 3, 4, 5, 6, 7]
    assert second.experiment["offline_id"] == first.experiment["offline_id"]
    assert second.experiment["resume_strategy"] == "get_or_create"  # `comet upload` may add to what is there
    assert len(second.uploads("text-sample")) == 1


def test_without_a_key_nothing_is_made_before_it_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    write_metrics(run, range(1, 3))
    (run / "config.yaml").write_text("training: {steps: 2}\n")
    publisher = Publisher(run, TrackingSettings(), {})
    publisher.publish()
    publisher.log_song("song", ABC)
    assert publisher.close() is None and not list((run / "comet").glob("*.zip")) and caplog.records == []
    assert main(["track", str(run), "tracking.project=reels"]) == 0
    (path,) = (run / "comet").glob("*.zip")
    assert str(path) in capsys.readouterr().out
    archive = Archive(path)
    assert archive.experiment["project_name"] == "reels" and archive.parameters()["training.steps"] == 2
    assert {step for _, step, _ in archive.metrics()} == {1, 2}
    assert [data.decode() for _, data in archive.uploads("text-sample")] == [ABC]


def test_online_without_a_key_warns_once_and_makes_an_archive(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_metrics(tmp_path / "run", range(1, 3))
    publisher = Publisher(tmp_path / "run", TrackingSettings(online=True), {})
    publisher.publish()
    path = publisher.close()
    assert path is not None and Archive(path).metrics()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no Comet key" in caplog.text


def test_an_unreachable_comet_warns_once_and_leaves_an_archive_without_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "abcdefghij0123456789ABCDE"
    monkeypatch.setenv("COMET_API_KEY", secret)
    monkeypatch.setenv("COMET_URL_OVERRIDE", "http://127.0.0.1:9/clientlib/")  # nothing listens there
    run = tmp_path / "run"
    write_metrics(run, range(1, 4))
    publisher = Publisher(run, TrackingSettings(), PARAMETERS)
    for _ in range(3):
        publisher.publish()
    path = publisher.close(timeout=120)
    assert path is not None
    assert {step for _, step, _ in Archive(path).metrics()} == {1, 2, 3}
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    written = [item.read_bytes() for item in run.rglob("*") if item.is_file()]
    assert not any(secret.encode() in data for data in written)
    assert not any(secret.encode() in data for data in Archive(path).files.values())


def test_a_place_that_cannot_be_written_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "run").write_text("a file where the run directory should be")
    publisher = Publisher(tmp_path / "run", OFFLINE, {})
    publisher.publish()
    publisher.log_song("song", ABC)
    publisher.log_table(tmp_path / "missing.csv")
    assert publisher.close() is None
    assert len(caplog.records) == 1


def test_switched_off_it_leaves_no_trace(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path, TrackingSettings(comet=False), {})
    publisher.log_song("song", ABC)
    assert publisher.close() is None
    assert not (tmp_path / "comet").exists()


def test_publishing_does_not_import_comet(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys; from reelmill.tracking.comet import Publisher\n"
        "from reelmill.tracking.settings import TrackingSettings\n"
        "Publisher(pathlib.Path(sys.argv[1]), TrackingSettings(online=False), {}).publish()\n"
        "sys.exit('comet_ml' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], timeout=60).returncode == 0


@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
def test_sound_is_published_compressed(tmp_path: Path, kind: str) -> None:
    samples = np.arange(100, dtype=np.int16)
    given = io.BytesIO()
    soundfile.write(given, samples, 22050, format=kind)
    Publisher(tmp_path / "run", OFFLINE, {}).log_song("s", ABC, given.getvalue())
    (file,) = (tmp_path / "run").rglob("*.flac")
    heard, rate = soundfile.read(file, dtype="int16")
    assert rate == 22050 and (heard == samples).all()
