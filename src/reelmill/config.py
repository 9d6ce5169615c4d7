"""The configuration of a run: dataclass defaults ← YAML file ← ``section.key=value``.

``load`` gives a validated ``Config``; every error names the file or the override, the key, the value seen and
the nearest key that exists. Which values mean something and which only say how is marked in the dataclasses
themselves (``reelmill.settings``); ``differences`` reads the marks.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import json
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from reelmill.audio.settings import AudioSettings
from reelmill.corpus.settings import CorpusSettings
from reelmill.errors import RequestError
from reelmill.sampling.settings import SamplingSettings
from reelmill.settings import STRICT, compute_keys
from reelmill.songs.settings import SongsSettings
from reelmill.tracking.settings import TrackingSettings
from reelmill.training.settings import ModelSettings, TrainingSettings

T = TypeVar("T")
_adapters: dict[type, TypeAdapter[Any]] = {}  # a millisecond each, and a directory has thousands of manifests


@dataclass(frozen=True, kw_only=True)
class Config:
    """All sections of a configuration. Immutable; change one with ``dataclasses.replace``."""

    corpus: CorpusSettings = field(default_factory=CorpusSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    audio: AudioSettings = field(default_factory=AudioSettings)
    songs: SongsSettings = field(default_factory=SongsSettings)
    tracking: TrackingSettings = field(default_factory=TrackingSettings)

    __pydantic_config__ = STRICT


class _Loader(yaml.SafeLoader):
    """Safe YAML with the core schema of version 1.2: ``2e-3`` is a number, and ``no``, ``4:00:00`` and dates
    are text. PyYAML follows version 1.1.
    """


class _Dumper(yaml.SafeDumper):
    """Quotes what ``_Loader`` would not read as the text it is."""


_RESOLVERS: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # by first character
_Loader.yaml_implicit_resolvers = _Dumper.yaml_implicit_resolvers = _RESOLVERS
# YAML 1.2.2, section 10.3.2; and the merge key, which is of version 1.1 and in use.
for _tag, _pattern, _first in (
    ("null", r"null|Null|NULL|~|", ["n", "N", "~", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.")),
    ("merge", r"<<", ["<"]),
):
    for _first_character in _first:
        _RESOLVERS.setdefault(_first_character, []).append(
            (f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"))
        )


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    return int(text, 0) if text.startswith(("0o", "0x")) else int(text)


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def load(path: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """The configuration in ``path`` (defaults if None) with ``section.key=value`` overrides applied.

    Raises RequestError for a missing or malformed file, an unknown key or a value that does not fit.
    """
    data = read_yaml(path) if path is not None else {}
    return from_dict(data, source=str(path) if path is not None else "defaults", overrides=overrides)


def from_dict(data: Mapping[str, Any], source: str, overrides: Sequence[str] = ()) -> Config:
    """Validate nested mappings, with ``section.key=value`` overrides applied, into a ``Config``.

    ``source`` names the origin in error messages.
    """
    changed = copy.deepcopy(dict(data))
    overridden = {_apply_override(changed, override) for override in overrides}
    return parse(Config, changed, source, overridden)


def parse(kind: type[T], data: Any, source: str, overridden: set[str] | None = None) -> T:
    """Validate ``data`` into the dataclass ``kind``; RequestError names each wrong key on its own line."""
    try:
        # By way of JSON: in strict mode that is where a mapping, not only an instance, becomes a dataclass.
        valid: T = _adapter(kind).validate_json(json.dumps(data, default=str))
        return valid
    except ValidationError as error:
        lines = [_explain(kind, problem, source, overridden or set()) for problem in error.errors()]
        raise RequestError("\n".join(dict.fromkeys(lines))) from None


def _adapter(kind: type) -> TypeAdapter[Any]:
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file; an empty file is an empty mapping."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RequestError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{path}: cannot be read as UTF-8 text ({error})") from None
    try:
        data = yaml.load(text, Loader=_Loader)  # _Loader is a SafeLoader
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a number of thousands of digits
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise RequestError(f"{path}{line}: not valid YAML: {getattr(error, 'problem', error)}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise RequestError(f"{path}: expected sections with keys, found {type(data).__name__}")
    return {key: value for key, value in data.items() if value is not None}  # left empty: the default


def read_value(text: str, override: str) -> Any:
    """The value that ``text`` stands for in YAML; RequestError naming the ``override`` it is of."""
    try:
        return yaml.load(text, Loader=_Loader)  # _Loader is a SafeLoader
    except (yaml.YAMLError, ValueError):
        raise RequestError(f"{override!r}: {text!r} is not a valid YAML value") from None


def to_dict(config: Any) -> dict[str, Any]:
    """Nested plain values of a settings dataclass, in declaration order."""
    return dataclasses.asdict(config)


def to_yaml(config: Config) -> str:
    """The resolved configuration as YAML text that ``load`` reads back to an equal value."""
    return yaml.dump(to_dict(config), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def differences(old: Any, new: Any, sections: Sequence[str] | None = None) -> list[tuple[str, Any, Any]]:
    """(key, old, new) for each setting that changes the meaning of the result and differs.

    ``old`` and ``new`` are two configs or two settings of the same class; ``sections`` limits a config to
    those sections.
    """
    return [
        (key, before, after)
        for key, before, after, compute in _pairs(old, new)
        if before != after and not compute and (sections is None or key.split(".")[0] in sections)
    ]


def _pairs(old: Any, new: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any, bool]]:
    compute = compute_keys(type(old))
    for item in dataclasses.fields(old):
        before, after = getattr(old, item.name), getattr(new, item.name)
        if dataclasses.is_dataclass(before):
            yield from _pairs(before, after, f"{prefix}{item.name}.")
        else:
            yield f"{prefix}{item.name}", before, after, item.name in compute


def _apply_override(data: dict[str, Any], override: str) -> str:
    key, equals, text = override.partition("=")
    section, dot, name = key.partition(".")
    if not equals or not dot or not section or not name:
        raise RequestError(f"{override!r}: expected section.key=value, for example training.steps=500")
    if section not in _names(Config):
        raise RequestError(f"{override!r}: there is no section {section!r}{nearest(section, _names(Config))}")
    value = read_value(text, override)
    values = data.setdefault(section, {})
    if not isinstance(values, dict):
        raise RequestError(f"section {section!r}: expected keys, found {values!r}")
    values[name] = value
    return key


def _explain(kind: type, problem: Any, source: str, overridden: set[str]) -> str:
    # A union's branches and list positions stand in loc after the key; the key is what a person wrote.
    parts = [str(part) for part in problem["loc"]]
    known = _known_depth(kind, parts)
    key = ".".join(parts[:known]) or "(top level)"
    where = "command line" if key in overridden else source
    if problem["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        siblings = _names(_class_at(kind, parts[: known - 1]))
        section = "".join(f"{part}." for part in parts[: known - 1])
        return f"{where}: unknown key {key!r}{nearest(parts[known - 1], siblings, section)}"
    expected = str(problem["msg"]).removeprefix("Input ").removeprefix("Value error, ")
    if "ctx" not in problem:  # not a matter of bounds: the type is wrong, and a union says so once a branch
        expected = f"should be {_type_name(kind, parts[:known])}"
    return f"{where}: {key} {expected}, not {problem['input']!r}"


def _type_name(kind: type, parts: list[str]) -> str:
    hint = typing.get_type_hints(_class_at(kind, parts[:-1])).get(parts[-1], object) if parts else kind
    return "a section with keys" if dataclasses.is_dataclass(hint) else str(getattr(hint, "__name__", hint))


def _known_depth(kind: type, parts: list[str]) -> int:
    depth, current = 0, kind
    for part in parts:
        if not dataclasses.is_dataclass(current):
            break
        depth += 1
        current = typing.get_type_hints(current).get(part, object)  # without extras: Annotated is stripped
    return depth


def _class_at(kind: type, parts: list[str]) -> type:
    for part in parts:
        kind = typing.get_type_hints(kind)[part]
    return kind


def _names(kind: type) -> list[str]:
    return [item.name for item in dataclasses.fields(kind)]


def nearest(name: str, names: Sequence[str], section: str = "") -> str:
    """What ``name`` was meant to be, to be put behind an error message."""
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {section + close[0]!r}?" if close else f"; valid are {', '.join(names)}"
