"""A run's best model as a folder for the Hugging Face Hub, with a model card, and its way there.

    RUN/hub/   README.md (the card), model.safetensors, model.json, vocabulary.json, config.yaml, state.json

``load_model``, ``generate`` and ``evaluate`` take such a folder, here or downloaded, as they take a run.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from reelmill import config as configuration
from reelmill import durable
from reelmill.config import Config
from reelmill.corpus.provenance import corpora, soundfont_text
from reelmill.errors import DamagedError, IncompleteError, RequestError
from reelmill.evaluation import evaluate_run
from reelmill.layout import CONFIG, STATE
from reelmill.room import size_text
from reelmill.runs import Checkpoint, find_checkpoint, load_model, run_config

FOLDER, CARD = "hub", "README.md"


@dataclass(frozen=True)
class Pushed:
    """``folder`` holds the ``files`` (bytes by name); ``url`` is where they are now, "" after a dry run."""

    folder: Path
    repository: str
    files: dict[str, int]
    url: str

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return {**asdict(self), "folder": str(self.folder)}

    def describe(self) -> str:
        """The files and where they are."""
        lines = [f"{name:<20}{size_text(size)}" for name, size in self.files.items()]
        where = self.url or f"not sent to {self.repository}; they lie in {self.folder}"
        return "\n".join([*lines, where])


def push(run: Path, repository: str, checkpoint: str | None = None, dry_run: bool = False) -> Pushed:
    """Write ``run``/hub and bring it to ``repository`` (OWNER/NAME), which is made private if it is new.

    With ``dry_run`` nothing is sent. Raises RequestError if the name is none or nobody is logged in,
    IncompleteError if the hub does not take it.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise RequestError(f"{repository}: not the name of a repository ({error})") from None
    folder = write_folder(run, repository, checkpoint)
    files = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    if dry_run:
        return Pushed(folder, repository, files, "")
    hub = HfApi(library_name="reelmill")
    try:
        url = hub.create_repo(repository, private=True, exist_ok=True)
        hub.upload_folder(
            repo_id=repository, folder_path=folder, commit_message=f"{run.resolve().name} by reelmill"
        )
    except LocalTokenNotFoundError:
        raise RequestError(f"{repository}: nobody is logged in; `hf auth login`, or set HF_TOKEN") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        said = f"{repository}: the hub refused it ({str(error).splitlines()[0]})"
        raise (RequestError if status in (401, 403) else IncompleteError)(said) from None
    except Exception as error:  # of its HTTP library, which is another from version to version
        raise IncompleteError(f"{repository}: the hub cannot be reached ({error})") from None
    return Pushed(folder, repository, files, str(url))


def write_folder(run: Path, repository: str, checkpoint: str | None = None) -> Path:
    """Write ``run``/hub anew from a checkpoint (the best one unless named); its path."""
    found = find_checkpoint(run, checkpoint)
    model, config = load_model(run, found.name), run_config(run)
    folder = run / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    with durable.filling_directory(folder) as partial:
        model.save(partial)
        durable.write_text(partial / CONFIG, configuration.to_yaml(config))
        kept = {key: found.state[key] for key in ("step", "vocabulary_sha256")}
        durable.write_json(partial / STATE, kept)
        durable.write_text(partial / CARD, _card(repository, found, config, _scores(run, found)))
    return folder


def _scores(run: Path, found: Checkpoint) -> dict[str, Any] | None:
    try:
        return evaluate_run(run, found.name)
    except (RequestError, DamagedError):  # no tunes are held out, or they are not there any more
        return None


def _card(repository: str, found: Checkpoint, config: Config, scores: dict[str, Any] | None) -> str:
    metadata = {
        "license": "other",
        "license_name": "see-licence-below",
        "library_name": "reelmill",
        "pipeline_tag": "text-generation",
        "tags": ["music", "abc-notation", "symbolic-music", "lstm", "reelmill"],
    }
    model = config.model
    beside = f", a pointer of {model.pointer}" if model.pointer else ""
    beside += f", metrical positions of {model.position}" if model.position else ""
    lines = [
        "---",
        yaml.safe_dump(metadata, sort_keys=False).strip(),
        "---",
        "",
        f"# {repository.rpartition('/')[2]}",
        "",
        "A character-level LSTM that writes tunes in ABC notation, trained with reelmill.",
        "",
        "| | |",
        "|---|---|",
        f"| Network | embedding {model.embedding_size}, {model.layers} × LSTM {model.hidden_size}{beside} |",
        f"| Trained | {found.step:,} of {config.training.steps:,} steps, seed {config.training.seed} |",
    ]
    if scores:
        lines.append(
            f"| Bits per character | {scores['bits_per_char']:.4f}, of {scores['tunes']:,} held-out tunes |"
        )
    return "\n".join([*lines, "", *_use(repository), *_licence(config)])


def _use(repository: str) -> list[str]:
    return [
        "## Use",
        "",
        "```python",
        "import huggingface_hub",
        "import reelmill",
        "",
        f'folder = huggingface_hub.snapshot_download("{repository}")',
        "for song in reelmill.sample_songs(reelmill.load_model(folder), 4, seed=1, temperature=0.8):",
        "    print(song)",
        "```",
        "",
        "With MIDI and sound: `reelmill generate FOLDER --songs 1000 --out songs/new`.",
        "",
    ]


def _licence(config: Config) -> list[str]:
    return [
        "## Licence",
        "",
        "reelmill itself is under the MIT licence and claims no rights in this model or in what it writes. "
        "What it may be used for depends on what it was made of:",
        "",
        *(f"- Training corpus: {phrase}." for phrase in corpora(config.corpus.source)),
        f"- Soundfont of its recordings: {soundfont_text(config.audio)}.",
        "",
    ]
