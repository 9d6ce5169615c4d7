"""A built corpus: the same split whatever the order, kept as it grows, and intact whatever is killed."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from reelmill import durable
from reelmill.corpus.build import BuiltCorpus, build, corpus_directory, load_or_build, tune_at
from reelmill.corpus.examine import body_of
from reelmill.corpus.settings import CorpusSettings
from reelmill.corpus.split import SIDES, identity, side_of
from reelmill.corpus.statistics import describe
from reelmill.errors import DamagedError, RequestError
from reelmill.notation.transposition import transpose

BUILD = """
import sys
from reelmill.corpus.build import load_or_build
from reelmill.corpus.settings import CorpusSettings
corpus = load_or_build(CorpusSettings(source=sys.argv[1], directory=sys.argv[2]))
print(sorted((split, row["text"], row["cluster"]) for split in corpus.tunes for row in corpus.tunes[split]))
"""


def write_book(path: Path, tunes: list[str]) -> str:
    path.write_text("\n".join(tunes))
    return str(path)


def sides(corpus: BuiltCorpus) -> dict[str, str]:
    return {text: split for split, tunes in corpus.tunes.items() for text in tunes["text"]}


def clusters(corpus: BuiltCorpus) -> dict[str, set[str]]:
    return {split: set(tunes["cluster"]) for split, tunes in corpus.tunes.items()}


def start(source: str, directory: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BUILD, source, str(directory)], stdout=subprocess.PIPE, text=True
    )


@pytest.fixture(scope="module")
def built(irish: list[str], tmp_path_factory: pytest.TempPathFactory) -> BuiltCorpus:
    return load_or_build(CorpusSettings(source="irish", directory=str(tmp_path_factory.mktemp("irish"))))


def test_irish_keeps_about_800_tunes_and_no_cluster_stands_on_two_sides(built: BuiltCorpus) -> None:
    assert 790 <= built.statistics["kept"] <= 804
    assert set(built.tunes) == set(SIDES)
    assert all({"text", "source", "cluster"} <= set(tunes.column_names) for tunes in built.tunes.values())
    train, validation, test = (clusters(built)[name] for name in ("train", "validation", "test"))
    assert not train & validation and not train & test and not validation & test
    assert all(tunes.cache_files for tunes in built.tunes.values()), "memory-mapped"


def test_the_split_of_irish_is_what_it_has_always_been(built: BuiltCorpus) -> None:
    # Held-out figures are of these tunes: whoever changes this changes what they can be compared with.
    lines = sorted(f"{row['cluster']} {split}" for split, tunes in built.tunes.items() for row in tunes)
    assert (
        hashlib.sha256("\n".join(lines).encode()).hexdigest()
        == "684eb690ace054b0ba1ab5a5bb9911f0963a453449057d185d6d0c4385b20a00"
    )


def test_processes_change_no_side_and_no_cluster(
    built: BuiltCorpus, irish: list[str], tmp_path: Path
) -> None:
    other = load_or_build(CorpusSettings(source="irish", directory=str(tmp_path / "corpus"), num_proc=2))
    assert sides(other) == sides(built)
    assert clusters(other) == clusters(built)


def test_a_large_corpus_takes_every_processor_and_a_small_one_a_process() -> None:
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert CorpusSettings().processes(1_000_000) == there
    assert CorpusSettings().processes(20) == 1
    assert CorpusSettings(num_proc=3).processes(20) == 3


@pytest.mark.slow
def test_traditional_keeps_about_4200_tunes_with_every_near_copy_on_one_side(
    traditional: list[str], tmp_path: Path
) -> None:
    corpus = load_or_build(
        CorpusSettings(source="traditional", directory=str(tmp_path / "corpus"), num_proc=2)
    )
    assert 4150 <= corpus.statistics["kept"] <= 4248
    assert 400 < corpus.statistics["near_duplicates"] < 1000
    bodies: dict[str, set[str]] = {}
    for text, split in sides(corpus).items():
        bodies.setdefault(body_of(text), set()).add(split)
    assert Counter(map(len, bodies.values())) == {1: len(bodies)}


def test_the_statistics_add_up(built: BuiltCorpus) -> None:
    found = built.statistics
    assert found["read"] == found["kept"] + found["bridged"] + sum(found["dropped"].values()) == 804
    assert found["tunes"] == {split: len(tunes) for split, tunes in built.tunes.items()}
    assert sum(found["tunes"].values()) == found["kept"]
    texts = {split: "".join(tunes["text"]) for split, tunes in built.tunes.items()}
    assert found["characters"] == {split: len(text) for split, text in texts.items()}
    assert found["distinct_characters"] == len(set("".join(texts.values())))
    counted = Counter(row["cluster"] for tunes in built.tunes.values() for row in tunes)
    assert found["clusters"] == len(counted)
    assert found["near_duplicates"] == sum(count for count in counted.values() if count > 1)
    for name in ("sources", "meters", "keys", "rhythms"):
        assert sum(found[name].values()) == found["kept"]
    assert found["pass_rates"]["headers"] == 1.0 and 0.9 < found["pass_rates"]["bars"] <= 1.0
    words = describe(found)
    for number in (found["kept"], found["clusters"], *found["dropped"].values(), *found["tunes"].values()):
        assert f"{number:,}" in words


def test_the_order_of_tunes_changes_no_side_and_no_cluster(
    built: BuiltCorpus, irish: list[str], tmp_path: Path
) -> None:
    source = write_book(tmp_path / "book.abc", irish[::-1])
    other = load_or_build(CorpusSettings(source=source, directory=str(tmp_path / "corpus")))
    assert sides(other) == sides(built)
    assert clusters(other) == clusters(built)


@pytest.mark.slow
def test_a_grown_corpus_keeps_every_side(built: BuiltCorpus, irish: list[str], tmp_path: Path) -> None:
    settings = CorpusSettings(source=str(tmp_path / "book.abc"), directory=str(tmp_path / "corpus"))
    write_book(tmp_path / "book.abc", irish[400:])
    small = sides(load_or_build(settings))
    # Copies in another key are new tunes that belong to old clusters.
    copies = [transpose(text, 2) for text in list(small)[:40]]
    write_book(tmp_path / "book.abc", [*copies, *irish])
    grown = load_or_build(settings)
    after = sides(grown)
    assert len(after) > 780 + 30
    assert {text: after[text] for text in small} == small
    for text, copy in zip(list(small)[:40], copies, strict=True):
        assert after[copy] == small[text]
    # A tune that goes away and comes back is where it was.
    write_book(tmp_path / "book.abc", irish[:400])
    load_or_build(settings)
    write_book(tmp_path / "book.abc", irish)
    assert {text: side for text, side in sides(load_or_build(settings)).items() if text in small} == small
    assert len(list((tmp_path / "corpus").glob("version-*"))) == 2


def test_a_tune_like_tunes_on_two_sides_is_left_out_and_counted(tmp_path: Path) -> None:
    # The ends differ in two bars of eight, the bridge in one from each.
    bars = [
        "GABc dedB",
        "dedB dedB",
        "c2ec B2dB",
        "c2A2 A2BA",
        "GABc dedB",
        "dedB dedB",
        "c2ec B2dB",
        "A2F2 G4",
    ]
    one, bridge, other = list(bars), list(bars), list(bars)
    one[2] = bridge[2] = "^f^g^a^b e'3z"
    other[5] = bridge[5] = "C,D,E,F, G,3z"
    tunes = [f"X:1\nT:{name}\nM:4/4\nL:1/8\nK:G\n{'|'.join(body)}|\n" for name, body in
             (("One", one), ("Other", other), ("Bridge", bridge))]  # fmt: skip
    seed = next(
        seed
        for seed in range(100)
        if {side_of(identity(body_of(tune)), seed, 0.2, 0.2) for tune in tunes[:2]} == {0, 2}
    )
    settings = CorpusSettings(
        source=str(tmp_path / "book.abc"),
        directory=str(tmp_path / "corpus"),
        split_seed=seed,
        validation_fraction=0.2,
        test_fraction=0.2,
    )
    write_book(tmp_path / "book.abc", tunes[:2])
    before = sides(load_or_build(settings))
    assert sorted(before.values()) == ["test", "train"]
    write_book(tmp_path / "book.abc", tunes)
    grown = load_or_build(settings)
    assert sides(grown) == before
    assert grown.statistics["bridged"] == 1
    assert "1 like tunes on two sides" in describe(grown.statistics)


def test_what_is_built_is_used_again_until_a_source_changes(irish: list[str], tmp_path: Path) -> None:
    settings = CorpusSettings(source=str(tmp_path / "book.abc"), directory=str(tmp_path / "corpus"))
    write_book(tmp_path / "book.abc", irish[:60])
    load_or_build(settings)
    first = (tmp_path / "corpus" / "current.json").read_bytes()
    load_or_build(settings)
    build(settings)
    assert (tmp_path / "corpus" / "current.json").read_bytes() == first
    write_book(tmp_path / "book.abc", irish[:61])
    assert load_or_build(settings).statistics["read"] == 61
    assert (tmp_path / "corpus" / "current.json").read_bytes() != first


def test_settings_have_a_place_of_their_own_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REELMILL_CACHE", str(tmp_path))
    place = corpus_directory(CorpusSettings())
    assert tmp_path in place.parents
    assert corpus_directory(CorpusSettings(num_proc=3)) == place
    for other in (
        CorpusSettings(source="traditional"),
        CorpusSettings(split_seed=1),
        CorpusSettings(fields=["K"]),
    ):
        assert corpus_directory(other) != place


def test_a_directory_split_in_another_way_is_refused(irish: list[str], tmp_path: Path) -> None:
    source = write_book(tmp_path / "book.abc", irish[:40])
    load_or_build(CorpusSettings(source=source, directory=str(tmp_path / "corpus")))
    with pytest.raises(RequestError, match=r"corpus\.split_seed = 0, not 1"):
        load_or_build(CorpusSettings(source=source, directory=str(tmp_path / "corpus"), split_seed=1))


def test_damage_is_named_and_not_used(irish: list[str], tmp_path: Path) -> None:
    settings = CorpusSettings(
        source=write_book(tmp_path / "book.abc", irish[:40]), directory=str(tmp_path / "corpus")
    )
    load_or_build(settings)
    file = next((tmp_path / "corpus").glob("version-*/tunes/*.arrow"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(DamagedError, match=r"tunes/data.*remove .*corpus"):
        load_or_build(settings)


@pytest.mark.slow
def test_processes_that_build_at_once_agree(irish: list[str], tmp_path: Path) -> None:
    source = write_book(tmp_path / "book.abc", irish[:200])
    three = [start(source, tmp_path / "corpus") for _ in range(3)]
    answers = {process.communicate(timeout=300)[0] for process in three}
    assert [process.returncode for process in three] == [0, 0, 0]
    assert len(answers) == 1 and "train" in answers.pop()
    assert len(list((tmp_path / "corpus").glob("version-*"))) == 1


@pytest.mark.slow
def test_a_killed_build_leaves_nothing_that_counts(irish: list[str], tmp_path: Path) -> None:
    source = write_book(tmp_path / "book.abc", irish)
    directory = tmp_path / "corpus"
    killed = 0
    for delay in (0.0, 0.3, 0.6, 1.0):
        process = start(source, directory)
        deadline = time.monotonic() + 60
        while not (directory.exists() and any(map(durable.is_temporary, directory.iterdir()))):
            if process.poll() is not None or time.monotonic() > deadline:
                break
            time.sleep(0.02)
        time.sleep(delay)
        killed += process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    assert killed
    corpus = load_or_build(CorpusSettings(source=source, directory=str(directory)))
    assert corpus.statistics["read"] == len(irish)
    left = {path.name for path in directory.iterdir()} - {".lock", "current.json"}
    assert left == {durable.read_json(directory / "current.json")["version"]}


def test_any_tune_can_be_taken_in_the_order_of_the_book(built: BuiltCorpus, irish: list[str]) -> None:
    settings = CorpusSettings(source="irish", directory=str(built.directory))
    last = built.statistics["kept"] - 1
    order = [index for tunes in built.tunes.values() for index in tunes["index"]]
    assert sorted(order) == list(range(last + 1))
    titles = [next(line for line in tune.split("\n") if line.startswith("T:")) for tune in irish]
    for index in (0, 1):
        assert titles[index] in tune_at(settings, index).text
    assert titles[-1] in tune_at(settings, last).text
    for wrong in (last + 1, -1):
        with pytest.raises(RequestError, match=f"0 to {last}"):
            tune_at(settings, wrong)


def test_broken_tunes_are_dropped_with_their_reasons(irish: list[str], tmp_path: Path) -> None:
    broken = ["X:1\nT:No key\nabc|\n", "X:2\nT:No notes\nK:G\n", f"X:3\nK:C\n{'A' * 10_000_000}\n", irish[30]]
    source = write_book(tmp_path / "book.abc", [*irish[30:70], *broken])
    corpus = load_or_build(CorpusSettings(source=source, directory=str(tmp_path / "corpus")))
    assert corpus.statistics["read"] == 44 and corpus.statistics["kept"] == 40
    assert sum(corpus.statistics["dropped"].values()) == 4
    assert len(corpus.statistics["dropped"]) == 4, "one reason each"


def test_a_corpus_without_one_valid_tune_is_refused_with_the_reasons(tmp_path: Path) -> None:
    source = write_book(tmp_path / "book.abc", ["X:1\nT:No key\nabc|\n"] * 2 + ["X:2\nK:G\n"])
    with pytest.raises(RequestError, match=r"book\.abc.*no valid tune \(no K field: 2, no notes: 1\)"):
        load_or_build(CorpusSettings(source=source, directory=str(tmp_path / "corpus")))
    assert not (tmp_path / "corpus" / "current.json").exists()


def test_the_text_column_may_hold_what_is_no_tune(irish: list[str], tmp_path: Path) -> None:
    import pandas

    pandas.DataFrame({"text": [*irish[30:70], None, "", "no tune at all"]}).to_parquet(
        tmp_path / "tunes.parquet"
    )
    corpus = load_or_build(
        CorpusSettings(source=str(tmp_path / "tunes.parquet"), directory=str(tmp_path / "corpus"))
    )
    assert corpus.statistics["kept"] == 40 and sum(corpus.statistics["dropped"].values()) == 3


def test_a_corpus_of_one_cluster_has_empty_sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELMILL_CACHE", str(tmp_path / "cache"))
    tune = "X:1\nT:Reel\nM:4/4\nL:1/8\nK:G\n|:GABG d2BG|ABcA dcBA|G2 e2dB|BAGB gfed:|\n"
    (tmp_path / "t.abc").write_text("\n".join(tune.replace("G2", f"G{n}") for n in range(2, 6)))
    tunes = build(CorpusSettings(source=str(tmp_path / "t.abc"))).tunes
    assert sorted(map(len, tunes.values())) == [0, 0, 4]
