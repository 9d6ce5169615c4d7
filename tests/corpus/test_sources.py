"""Whatever form tunes come in, the same tunes come out; what is no corpus is refused by name."""

import json
import os
from pathlib import Path

import pandas
import pytest

from reelmill.corpus.settings import CorpusSettings
from reelmill.corpus.sources import read_sources
from reelmill.errors import RequestError

JIG = "X:1\nT:Jig\nM:6/8\nK:G\nGAB cde|dBG G3|\n"


def texts(tmp_path: Path, source: str | Path | list[str], **settings: str | int) -> list[str]:
    found = source if isinstance(source, list) else str(source)
    return list(read_sources(CorpusSettings(source=found, **settings), tmp_path / "cache")["text"])  # type: ignore[arg-type]


def write_forms(folder: Path, tunes: list[str]) -> dict[str, Path]:
    """The same tunes as a book, a folder of books, and tables of each kind."""
    folder.mkdir()
    (folder / "book.abc").write_text("% a file header\n\n" + "\n".join(tunes))
    for number, tune in enumerate(tunes):
        book = folder / "books" / f"{number % 3}" / f"{number:03}.ABC"
        book.parent.mkdir(parents=True, exist_ok=True)
        book.write_text(tune)
    table = pandas.DataFrame({"title": ["t"] * len(tunes), "abc": tunes})
    table.to_json(folder / "tunes.jsonl", orient="records", lines=True)
    table.to_csv(folder / "tunes.csv", index=False)
    table.to_parquet(folder / "tunes.parquet")
    return {
        "book": folder / "book.abc",
        "folder": folder / "books",
        "glob": folder / "books" / "**" / "*.ABC",
        "jsonl": folder / "tunes.jsonl",
        "csv": folder / "tunes.csv",
        "parquet": folder / "tunes.parquet",
    }


def test_every_form_of_a_corpus_gives_the_same_tunes(irish: list[str], tmp_path: Path) -> None:
    tunes = irish[:60]
    forms = write_forms(tmp_path / "forms", tunes)
    for name, path in forms.items():
        assert sorted(texts(tmp_path, path)) == sorted(tunes), name
    for name in ("book", "jsonl", "csv", "parquet"):
        assert texts(tmp_path, forms[name]) == tunes, f"{name}: another order"


def test_a_list_of_sources_is_read_in_its_order_and_labelled_without_machine_paths(
    irish: list[str], tmp_path: Path
) -> None:
    forms = write_forms(tmp_path / "forms", irish[:9])
    settings = CorpusSettings(source=[str(forms["folder"]), "irish", str(forms["jsonl"])])
    tunes = read_sources(settings, tmp_path / "cache")
    assert list(tunes["text"])[9:] == [*irish, *irish[:9]]
    labels = list(dict.fromkeys(tunes["source"]))
    assert labels[0] == "0/000.ABC" and labels[-2:] == ["irish/irish.abc", "tunes.jsonl"]
    assert not any(str(tmp_path) in label for label in labels)


def test_processes_do_not_change_what_is_read(irish: list[str], tmp_path: Path) -> None:
    forms = write_forms(tmp_path / "forms", irish[:30])
    for name in ("folder", "parquet"):
        assert texts(tmp_path / "two", forms[name], num_proc=2) == texts(tmp_path / "one", forms[name])


def test_a_data_set_laid_out_like_one_of_the_hub_is_loaded_with_all_its_splits(
    irish: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "irishman"
    folder.mkdir()
    for split, tunes in {"train": irish[:40], "validation": irish[40:50]}.items():
        rows = [{"abc notation": tune, "control code": "S:2\nB:8\n"} for tune in tunes]
        (folder / f"{split}.json").write_text(json.dumps(rows))
    tunes = read_sources(CorpusSettings(source=str(folder)), tmp_path / "cache")
    assert list(tunes["text"]) == irish[:50]
    assert set(tunes["source"]) == {"irishman:train", "irishman:validation"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_titles_survive_their_encoding(encoding: str, tmp_path: Path) -> None:
    book = "X:1\nT:Seán Ó Duibhir\nK:D\nDEF|\n\nX:2\nT:An Páistín Fionn\nK:D\nFED|\n"
    (tmp_path / "book.abc").write_bytes(book.encode(encoding))
    assert "\n".join(texts(tmp_path, tmp_path / "book.abc")) == book


def test_a_book_may_mix_encodings_and_line_ends(tmp_path: Path) -> None:
    parts = [
        JIG.replace("Jig", "Ó").encode(),
        JIG.replace("Jig", "É").replace("\n", "\r\n").encode("latin-1"),
    ]
    (tmp_path / "book.abc").write_bytes(b"\r\n\r\n".join(parts))
    assert texts(tmp_path, tmp_path / "book.abc") == [JIG.replace("Jig", "Ó"), JIG.replace("Jig", "É")]


TITLES = "X:1\nT:Café “Ó” – it’s\nK:D\nDEF|\n\nX:2\nT:Páistín\nK:D\nFED|\n"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
def test_books_of_any_encoding_and_line_end_are_read(encoding: str, end: str, tmp_path: Path) -> None:
    (tmp_path / "book.abc").write_bytes(TITLES.replace("\n", end).encode(encoding))
    assert "\n".join(texts(tmp_path, tmp_path / "book.abc")) == TITLES


@pytest.mark.parametrize("line", ["%%abc-charset {}", "I:abc-charset {}", "I: abc-charset={}"])
@pytest.mark.parametrize("charset", ["iso-8859-2", "ISO-8859-1", "utf-8", "koi8-r", "no-such-set", "hex"])
def test_a_book_may_name_its_character_set(line: str, charset: str, tmp_path: Path) -> None:
    known = {"no-such-set": "latin-1", "hex": "latin-1"}.get(charset, charset)
    title = "Дом" if charset == "koi8-r" else "čáš" if known == "iso-8859-2" else "café"
    book = f"{line.format(charset)}\n\nX:1\nT:{title}\nK:D\nDEF|\n"
    (tmp_path / "book.abc").write_bytes(book.encode(known))
    assert f"T:{title}" in texts(tmp_path, tmp_path / "book.abc")[0]


def test_books_joined_with_their_marks_lose_no_tune(tmp_path: Path) -> None:
    parts = [JIG.replace("X:1", f"X:{number}").encode("utf-8-sig") for number in (1, 2, 3)]
    (tmp_path / "book.abc").write_bytes(b"\n".join(parts) + b"\x1a")
    assert texts(tmp_path, tmp_path / "book.abc") == [JIG.replace("X:1", f"X:{n}") for n in (1, 2, 3)]


def test_a_wide_book_that_breaks_off_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "book.abc").write_bytes(JIG.encode("utf-16")[:-1])
    with pytest.raises(RequestError, match=r"book\.abc: not UTF-16"):
        texts(tmp_path, tmp_path / "book.abc")


def test_a_changed_book_is_read_again(tmp_path: Path) -> None:
    book = tmp_path / "book.abc"
    book.write_text(JIG)
    assert texts(tmp_path, book) == [JIG]
    changed = book.stat().st_mtime_ns
    book.write_text(JIG.replace("Jig", "Gig"))
    os.utime(book, ns=(changed, changed))
    assert texts(tmp_path, book) == [JIG.replace("Jig", "Gig")]


def test_the_text_column_is_named_or_guessed(tmp_path: Path) -> None:
    path = tmp_path / "tunes.jsonl"
    path.write_text(json.dumps({"notes": JIG, "opus": 3}) + "\n")
    assert texts(tmp_path, path, text_column="notes") == [JIG]
    with pytest.raises(RequestError, match=r"tunes\.jsonl.*corpus\.text_column.*'notes', 'opus'"):
        texts(tmp_path, path)
    with pytest.raises(RequestError, match="'opus' does not hold text"):
        texts(tmp_path, path, text_column="opus")
    with pytest.raises(RequestError, match=r"'abc' is not there.*'notes', 'opus'"):
        texts(tmp_path, path, text_column="abc")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.abc", None, "no such file"),
        ("absent/folder", None, "no such file|cannot be loaded"),
        ("empty.abc", b"", "is empty"),
        ("prose.abc", b"To be or not to be\n", "no line begins with X:"),
        ("line.abc", b"a" * 10_000_000, "no line begins with X:"),
        ("binary.abc", b"MThd\x00\x00\x00\x06\x00\x01", "binary"),
        ("notes.txt", JIG.encode(), "not one of"),
        ("empty.jsonl", b"", "empty|cannot be read"),
        ("broken.jsonl", b'{"text": "X:1', "cannot be read as jsonl"),
        ("broken.parquet", b"PAR1 not really", "cannot be read as parquet"),
        ("binary.csv", bytes(range(256)) * 8, "cannot be read as csv|text_column"),
        ("*.nothing", None, "no file matches"),
    ],
)
def test_what_is_no_corpus_is_refused_by_name(
    name: str, content: bytes | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RequestError, match=message) as caught:
        texts(tmp_path, path)
    assert path.name in str(caught.value)


def test_a_folder_without_tunes_and_an_empty_list_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "readme.md").write_text("nothing")
    with pytest.raises(RequestError, match=r"folder: a folder with no \.abc"):
        texts(tmp_path, tmp_path / "folder")
    with pytest.raises(RequestError, match=r"corpus\.source is empty"):
        texts(tmp_path, [])


def test_a_hub_data_set_out_of_reach_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(RequestError, match="sander-wood/no-such-tunes"):
        texts(tmp_path, "sander-wood/no-such-tunes")
