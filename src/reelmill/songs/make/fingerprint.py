"""The fingerprint of a machine: does it make the bytes that the plan's other workers make?

A worker compares it before it makes its first song.

Each half of a songs directory has one, because another machine may make each. Probes with a known answer and
the editions of the tools decide, for no probe has every note, error and instrument that songs have; other
versions are for people. A probe is computed exactly as songs are, with this worker's own slots and threads,
so it also notices a machine where those change a song.

In int8 songs are the same on every processor, so neither it nor the device is part of the fingerprint. In
float32 and bfloat16 they follow both: a probe that differs is refused, and where none does on another
processor, rare songs may still differ, which is said.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reelmill.audio import abc2midi
from reelmill.audio.render import renderer, sound_edition, versions
from reelmill.audio.settings import AudioSettings
from reelmill.config import Config
from reelmill.durable import digest
from reelmill.errors import RequestError
from reelmill.sampling.settings import EDITION, SamplingSettings
from reelmill.songs.make.validate import Validated, validate
from reelmill.songs.store.manifest import Kind
from reelmill.songs.store.plan import Plan, grow_plan, plan_path, read_plan
from reelmill.songs.store.sound import record

if TYPE_CHECKING:  # torch is for who samples
    from reelmill.model import TrainedModel
    from reelmill.sampling.engine import Engine

_log = logging.getLogger(__name__)

PROBES = ("numbers", "characters", "midi", "sound")
TOOLS = ("sampling", "abc2midi", "synthesizer", "soundfont")

_TUNE = """X:1
T:Probe
M:6/8
L:1/8
Q:3/8=110
K:D
|:A|dAF DFA|ded cBA|dcd efg|fdf ecA|dAF ~D3|[DF]A2 d2e|{g}f2d e>dc|1 d3 d2:|2 d3-d3|]
"""


def tested_engine(directory: Path, plan: Plan, config: Config, model: TrainedModel) -> Engine:
    """An engine that samples what the plan's other workers sample; RequestError if there is none here."""
    from reelmill.sampling.engine import Engine, emulates

    if emulates(config.sampling):
        _log.warning(
            "sampling.precision = %r is emulated by this processor: int8 (the default) and float32 are many "
            "times as fast, but make other songs, so they need a directory of their own",
            config.sampling.precision,
        )
    require_same_bytes(directory, "text", text_fingerprint(model, config.sampling, plan.seed))
    return Engine(model, config.sampling, plan.seed)


def require_same_sound(directory: Path, audio: AudioSettings) -> None:
    """RequestError if this machine would render other bytes than the plan's other workers."""
    require_same_bytes(directory, "audio", audio_fingerprint(audio))


def require_edition(directory: Path, plan: Plan) -> None:
    """Refuse a plan whose songs another edition samples: were it to grow, it would never be complete."""
    planned, seen = plan.fingerprint.get("text"), {"sampling": EDITION}
    if planned is not None and planned.get("sampling") != EDITION:
        raise RequestError(f"{plan_path(directory)}: {way_out(planned, seen)}")


def require_same_bytes(directory: Path, half: Kind, seen: dict[str, str]) -> None:
    """Refuse to work where this machine would make other bytes than the plan's other workers.

    The first worker of a half writes its fingerprint into the plan; of several, one comes first.
    """
    planned = read_plan(directory).fingerprint.get(half)
    if planned is None:
        planned = grow_plan(directory, fingerprint={half: seen}).fingerprint[half]
    differences, advice = "; ".join(differing(planned, seen)), way_out(planned, seen)
    if not same_bytes(planned, seen):
        refusal = f"this machine would not make the same {half}: {differences}. {advice}"
        raise RequestError(f"{plan_path(directory)}: {refusal.strip()}")
    if "processor is" in differences:
        _log.warning("the probes agree, but %s: rare songs may differ. %s", differences, advice)
    elif differences:
        _log.warning("the same bytes, but %s", differences)


def text_fingerprint(model: TrainedModel, sampling: SamplingSettings, seed: int) -> dict[str, str]:
    """What decides the text half here: the model's numbers, what is sampled from them, and a tune's MIDI."""
    from reelmill.sampling.probe import known_answers

    probe = _validated_probe()
    return {
        "sampling": EDITION,
        **known_answers(model, sampling, seed),
        "abc2midi": abc2midi.version(),
        "midi": digest(probe.data, _numbers(probe.facts(0, 1))),
    }


def audio_fingerprint(audio: AudioSettings) -> dict[str, str]:
    """What decides the audio half here: the synthesizer and its soundfont, and a song recorded with them."""
    probe = _validated_probe()
    sound = record(probe.facts(0, 1), probe.data, renderer(audio), audio)
    if sound.failure:
        raise RequestError(f"audio.backend {audio.backend}: a probe song gives no sound: {sound.failure}")
    return {**versions(audio), "sound": digest(sound.data, _numbers(sound.facts))}


def _validated_probe() -> Validated:
    return validate(_TUNE, True, len(_TUNE))


def differing(planned: dict[str, str], seen: dict[str, str]) -> list[str]:
    """Lines that say what differs: what a person can change first, the probes after it."""
    return [
        f"{key} is {planned.get(key)!r} in the plan and {seen.get(key)!r} here"
        for key in sorted(planned.keys() | seen.keys(), key=lambda key: (key in PROBES, key))
        if planned.get(key) != seen.get(key)
    ]


def same_bytes(planned: dict[str, str], seen: dict[str, str]) -> bool:
    """Whether the tools are the planned ones and every probe has the planned answer."""
    return all(planned.get(key) == seen.get(key) for key in (*TOOLS, *PROBES))


def way_out(planned: dict[str, str], seen: dict[str, str]) -> str:
    """What a person can do about bytes that differ or may differ; empty where there is nothing to say."""
    if planned.get("sampling") != seen.get("sampling"):
        return (
            "Its songs were sampled by another edition of reelmill. They stay valid: verify, collect and "
            "render them as they are. Make more of them with the edition that began them, or all of them in "
            "another directory: reelmill generate RUN --songs N --out DIR"
        )
    if "synthesizer" in seen and sound_edition(planned["synthesizer"]) != sound_edition(seen["synthesizer"]):
        return (
            "Its sound was made by another edition of reelmill. It stays valid: verify, collect and open it "
            "as it is. Make the rest with the edition that began it, or all of it in another directory: "
            "reelmill generate RUN --songs N --out DIR"
        )
    if seen.get("precision", "int8") != "int8":
        return (
            f"Songs in {seen['precision']} follow the processor and its libraries; in another directory, "
            "sampling.precision=int8 (the default) makes the same songs on every processor"
        )
    return ""


def _numbers(facts: dict[str, Any]) -> bytes:
    return json.dumps(facts, sort_keys=True).encode()
