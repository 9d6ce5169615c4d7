"""The dataset card of a songs directory: a README.md with the metadata that the Hugging Face Hub reads, and a
.gitignore, which it heeds in every upload (https://github.com/huggingface/huggingface_hub/pull/1868).
"""

from __future__ import annotations

import json
from typing import Any

import yaml

from reelmill.audio.settings import AudioSettings
from reelmill.corpus.provenance import corpora, soundfont_text
from reelmill.songs.results.analysis import music_table
from reelmill.songs.store.plan import Plan
from reelmill.songs.store.song import TIERS

GITIGNORE = """\
# What belongs to where the songs were made and not to them; the hub leaves it out of uploads, as git does.
/logs/
/leases/
/comet/
/metrics.jsonl
.*
!.gitignore
"""

# The hub's own words for sizes: https://github.com/huggingface/hub-docs, datasetcard.md
_SIZES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
    (10**8, "10M<n<100M"),
    (10**9, "100M<n<1B"),
)


def dataset_card(name: str, plan: Plan, summary: dict[str, Any]) -> str:
    """The card's text, a function of its arguments."""
    halves = ["audio", "text"] if plan.audio else ["text"]
    # Without index.parquet: datasets reads all configurations of a folder with one reader.
    configs: list[dict[str, Any]] = [{"config_name": half, "data_files": f"{half}/*.tar"} for half in halves]
    configs[0]["default"] = True
    metadata = {
        "pretty_name": name,
        "license": "other",
        "license_name": "see-licence-below",
        "tags": ["music", "abc-notation", "midi", "symbolic-music", "synthetic", "webdataset", "reelmill"]
        + (["audio"] if plan.audio else []),
        "task_categories": ["text-generation", *(["text-to-audio"] if plan.audio else [])],
        "size_categories": [next((text for most, text in _SIZES if summary["songs"] < most), "1B<n<10B")],
        "configs": configs,
    }
    return "\n".join(
        [
            "---",
            yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True).strip(),
            "---",
            "",
            f"# {name}",
            "",
            *_about(name, plan, summary),
        ]
    )


def _about(name: str, plan: Plan, summary: dict[str, Any]) -> list[str]:
    length = summary["distributions"].get("characters", {})
    seconds = summary["distributions"].get("duration_seconds")
    lines = [
        f"{summary['songs']:,} songs in ABC notation with MIDI"
        + (", sound" if plan.audio else "")
        + " and features, written by a character-level LSTM (reelmill).",
        "",
        "| | |",
        "|---|---|",
        f"| Songs | {summary['songs']:,} (ids 0 … {plan.songs - 1}) |",
        f"| Ids without a song | {summary['failed']['count']:,} |",
        f"| Characters a song | {length.get('mean', 0):.0f} on average |",
    ]
    if seconds:
        sound = plan.audio_settings
        lines += [
            f"| Sound | {seconds['total'] / 3600:,.1f} hours, {seconds['mean']:.1f} s a song |",
            f"| Format | {sound.format.upper()}, {sound.sample_rate} Hz, {sound.channels} × 16 bits |",
        ]
    for tier in TIERS:
        if tier in summary["pass_rate"]:
            tunes = (summary.get("training_tunes") or {}).get("pass_rate", {})
            beside = f" (training tunes: {tunes[tier]:.1%})" if tier in tunes else ""
            lines.append(f"| Attempts that pass `{tier}` | {summary['pass_rate'][tier]:.1%}{beside} |")
    sampling = plan.sampling
    lines += [
        f"| Sampling | temperature {sampling.temperature:g}, top-k {sampling.top_k}, "
        f"top-p {sampling.top_p:g}, min-p {sampling.min_p:g}, {sampling.precision}, seed {plan.seed} |",
        f"| Model | `{plan.model[:16]}`, in `model/` |",
    ]
    return [*lines, "", *_music(summary["music"]), *_reading(name, plan), *_licence(plan, summary)]


def _music(music: dict[str, Any]) -> list[str]:
    headings, rows = music_table(music)
    return [
        "## The music",
        "",
        f"| | {' | '.join(headings)} |",
        f"|---|{'---|' * len(headings)}",
        *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows),
        "",
    ]


def _licence(plan: Plan, summary: dict[str, Any]) -> list[str]:
    source = summary.get("corpus")
    soundfont = soundfont_text(plan.audio_settings, plan.fingerprint.get("audio", {}).get("soundfont", ""))
    return [
        "## Licence",
        "",
        "reelmill itself is under the MIT licence and claims no rights in these songs. What they may be used "
        "for depends on what they were made of:",
        "",
        *(f"- Training corpus: {phrase}." for phrase in corpora(source or [])),
        *([] if source else ["- Training corpus: not recorded here; whoever trained the model knows it."]),
        *([f"- Soundfont: {soundfont}."] if plan.audio else []),
        "",
    ]


def _reading(name: str, plan: Plan) -> list[str]:
    folder = json.dumps(name)
    return [
        ("`text/` and `audio/` are WebDatasets: tars" if plan.audio else "`text/` is a WebDataset: tars")
        + " whose members ID.abc, ID.json and ID.mid"
        + (" (or the sound)" if plan.audio else "")
        + " make a song. `index.parquet` has one row a song.",
        "",
        "```python",
        "import datasets",
        "import pandas",
        "",
        f"folder = {folder}  # from beside it; on the hub its owner's name and a slash come first",
        'songs = datasets.load_dataset(folder, "text", split="train")'
        + ('  # or "audio": with torchcodec and FFmpeg' if plan.audio else ""),
        'index = pandas.read_parquet(f"{folder}/index.parquet")',
        "```",
        "",
        "`reelmill.open_songs` gives every song with its features"
        + (" and its sound decoded, without torchcodec" if plan.audio else "")
        + ".",
        "",
        *([] if plan.audio else _rendering(folder, plan.audio_settings)),
    ]


def _rendering(folder: str, sound: AudioSettings) -> list[str]:
    return [
        f"Its sound ({sound.sample_rate} Hz, {sound.channels} × 16 bits) is not stored but rendered from the "
        "MIDI as the songs are read, to the same samples wherever synthesizer and soundfont are the same. "
        "Text and MIDI of 100,000 songs are 0.5 GB; their sound in CD quality is some 640 GB.",
        "",
        "```python",
        "import reelmill",
        "",
        f'for song in reelmill.open_songs({folder}, audio="render"):',
        '    print(song["title"], song["audio"]["samples"].shape, song["audio"]["sampling_rate"])',
        "```",
        "",
    ]
