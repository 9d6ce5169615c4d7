"""docs/lab.ipynb runs as it is written, with fewer steps of training, and its recordings are players."""

import base64
import io
import re
from pathlib import Path

import nbformat
import pytest
import soundfile
from nbclient import NotebookClient

from reelmill.corpus.named import NAMES, get
from reelmill.errors import RequestError

LAB = Path(__file__).parents[1] / "docs/lab.ipynb"
PLAYER = re.compile(r'<audio controls preload="metadata" src="data:audio/\w+;base64,([^"]+)"></audio>')


def printed(cell: nbformat.NotebookNode) -> str:
    """What a cell printed."""
    return "".join(output.text for output in cell.outputs if output.get("name") == "stdout")


def players(cell: nbformat.NotebookNode) -> list[str]:
    """The sound files that a cell's output has."""
    pages = [output.data.get("text/html", "") for output in cell.outputs if "data" in output]
    return [content for page in pages for content in PLAYER.findall(page)]


@pytest.mark.slow
def test_the_lab_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "irish" in NAMES
    try:
        get("irish")
    except RequestError as error:
        pytest.skip(f"no corpus here: {error}")
    monkeypatch.setenv("LAB_STEPS", "100")
    lab = nbformat.read(LAB, as_version=4)
    assert len(lab.cells) == 12 and not any(cell.get("outputs") for cell in lab.cells)
    NotebookClient(lab, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
    corpus, listen, train, sample, again, table = (cell for cell in lab.cells if cell.cell_type == "code")
    assert "X:1\n" in printed(corpus) and "step=100, finished=True" in str(train.outputs)
    assert [f"X:{song}\n" in printed(sample) for song in range(4)] == [True] * 4
    assert len(players(listen)) == 1 and len(players(again)) == 4
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(players(listen)[0])))
    assert len(samples) / rate > 5 and abs(samples).max() > 0.1
    assert "spectral_centroid_hz" in table.outputs[0].data["text/html"]
