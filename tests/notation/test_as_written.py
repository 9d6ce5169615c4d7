"""Notation as people write it: what ABC 2.1 allows, and old books and web pages have, keeps its music."""

from collections.abc import Callable

import pytest

from reelmill.audio.midi import abc_to_midi, midi_problem
from reelmill.notation.bars import bars_problem
from reelmill.notation.book import split_book
from reelmill.notation.canonical import NotATune, canonical
from reelmill.notation.chords import chord_symbol
from reelmill.notation.header import header
from reelmill.notation.parts import MOST_PARTS, TooManyParts, play_order
from reelmill.notation.symbols import decoration

FIELDS = ["X", "T", "R", "M", "L", "Q", "K"]
Hear = Callable[[str], list[tuple[int, int, int]]]
PLAIN = "GABG c2BA|d2ef g2fe|d2BG A2FA|G2B2 G4"


def tune(body: str, head: str = "", key: str = "G") -> str:
    return f"X:1\n{head}M:4/4\nL:1/8\nK:{key}\n{body}\n"


def body_of(abc: str) -> str:
    return canonical(abc, FIELDS).split("\nK:", 1)[1].partition("\n")[2].removesuffix("\n")


def pitches(heard: list[tuple[int, int, int]]) -> list[int]:
    return [pitch for _, _, pitch in heard]


DECORATIONS = [
    "trill", "trill(", "trill)", "lowermordent", "uppermordent", "mordent", "pralltriller", "roll", "turn",
    "turnx", "invertedturn", "invertedturnx", "arpeggio", ">", "accent", "emphasis", "fermata",
    "invertedfermata", "tenuto", "wedge", "slide", "snap", "plus", "upbow", "downbow", "open", "thumb",
    "breath", "pppp", "ppp", "pp", "p", "mp", "mf", "f", "ff", "fff", "ffff", "sfz", "crescendo(",
    "crescendo)", "<(", "<)", "diminuendo(", "diminuendo)", ">(", ">)", "segno", "coda", "D.S.", "D.C.",
    "dacoda", "dacapo", "fine", "shortphrase", "mediumphrase", "longphrase",
]  # fmt: skip


@pytest.mark.parametrize("name", DECORATIONS)
def test_a_decoration_between_plus_signs_is_the_one_between_exclamation_marks(name: str) -> None:
    assert decoration(name)
    assert body_of(tune(f"+{name}+G2 A2|")) == body_of(tune(f"!{name}!G2 A2|")) == f"!{name}!G2 A2|"


@pytest.mark.parametrize(
    "written", ["+4+", "!4!", "+salve+", "!salve!", "!D.C. al fine!", "!Da Capo!", "!a,b=c!"]
)
def test_what_no_player_knows_leaves_no_note(written: str) -> None:
    assert body_of(tune(f"{written}G2 A2|")) == "G2 A2|"


def test_plus_signs_around_notes_are_a_chord_of_old_abc() -> None:
    assert body_of(tune("+GBd+2 +e2g2+|")) == "[GBd]2 [e2g2]|"


@pytest.mark.parametrize("definition", ["W = !trill!", "W=+trill+", "U: W=!trill!"])
def test_user_symbols_stand_for_what_they_say(definition: str) -> None:
    assert body_of(tune("WG2 A2|", f"U:{definition.removeprefix('U:')}\n")) == "!trill!G2 A2|"


def test_user_symbols_without_sound_are_no_prose() -> None:
    heads = 'U:k="^slowly"\nU:n=!nil!\nU:T=!turn!\nU:~=!roll!\n'
    assert body_of(tune("kGnG kGnG|" * 9 + "TG2 ~A2|", heads)) == "GG GG|" * 9 + "!turn!G2 ~A2|"
    assert body_of(tune("nGAB|\nU:n=!fermata!\nnGAB|")) == "!fermata!GAB|\n!fermata!GAB|"


@pytest.mark.parametrize(
    ("voice", "shift"),
    [
        ("clef=treble-8", -12), ("treble-8", -12), ("clef=bass+8", 12), ("octave=-1", -12), ("octave=2", 24),
        ("transpose=-12", -12), ("transpose=-2", -2), ("transpose=3 octave=-1", -9), ("transpose=-14", -14),
        ("clef=G2-8", -12), ('name="the octave=1" clef=treble-8 stafflines=5', -12),
        ("clef=bass middle=d", 0),
        ("clef=alto", 0), ("clef=treble-8 octave=-2", -24), ("clef=treble^8", 0), ("perc", 0),
    ],
)  # fmt: skip
def test_octaves_and_transpositions_of_clefs_are_heard(voice: str, shift: int, hear: Hear) -> None:
    plain = pitches(hear(tune(PLAIN)))
    written = [
        tune(f"[V:1]{PLAIN}", f"V:1 {voice}\n"),
        tune(f"V:1\n{PLAIN}", f"V:1 {voice}\n"),
        tune(f"V:1 {voice}\n{PLAIN}"),
        tune(f"[V:1 {voice}]{PLAIN}"),
        tune(PLAIN, f"V:1 {voice}\n"),
        tune(PLAIN, key=f"G {voice}"),
        tune(f"[K:G {voice}]{PLAIN}"),
    ]
    for abc in written:
        form = canonical(abc, FIELDS)
        assert pitches(hear(form)) == [pitch + shift for pitch in plain], abc
        assert canonical(form, FIELDS) == form
        assert "octave" not in form and "clef" not in form


def test_each_voice_has_its_own_octave_and_a_new_clef_ends_it(hear: Hear) -> None:
    voices = tune("[V:a]GABc|\n[V:b]GABc|\n[V:a][K:clef=bass]G4|", "V:a treble-8\nV:b octave=1\n")
    assert body_of(voices) == "[V:a]G,A,B,C|\n[V:b]gabc'|\n[V:a]G4|"
    with pytest.raises(NotATune, match="beyond MIDI"):
        canonical(tune("C,,,|", key="G octave=-5"), FIELDS)


@pytest.mark.parametrize(
    ("key", "short"),
    [
        ("D clef=bass", "D"), ("D bass", "D"), ("Dmix stafflines=3 alto4", "Dmix"), ("D foo bar=3", "D"),
        ("clef=bass", "none"), ("bass", "none"), ("D Major % two sharps", "D"), ("A =f perc", "A =f"),
        ("E minor treble", "Em"), ('G name="K"', "G"), ("exp ^f", "none exp ^f"), ("^f ^c", "none ^f ^c"),
    ],
)  # fmt: skip
def test_words_in_a_key_that_are_no_key_are_ignored(key: str, short: str) -> None:
    assert header(canonical(tune("GAB|", key=key), FIELDS))["K"] == short


@pytest.mark.parametrize("field", ["[K:clef=bass]", "\nK:bass\n", "[K:middle=d]", '[K:style="x"]', "[K: ]"])
def test_a_clef_alone_changes_no_key(field: str) -> None:
    assert body_of(tune(f"GAB|{field}GAB|")).replace("\n", "") == "GAB|GAB|"


@pytest.mark.parametrize("key", ["H", "Gxyz", "Es", "Bn", "d", "?"])
def test_what_is_no_key_is_none(key: str) -> None:
    with pytest.raises(NotATune, match="unknown key"):
        canonical(tune("GAB|", key=key), FIELDS)


NUMBERS = [
    "% as in the print of 1850\n", '"^in 1850"', "[r:from the book of 18500]", "[N:no 1850]", "!1850!",
    "\nw:in 1-8-5-0 and 1850\n", "[I:setbarnb 1850]",
    "\nI:abc-charset iso-8859-1\n", "\nr:1850\n", "[T:1850]",
    "\nP:VARIATION 1850\n", "\nV:fiddle1850\n", "\nU:k=!1850!\n",
]  # fmt: skip


@pytest.mark.parametrize("text", NUMBERS)
def test_numbers_that_are_no_music_are_no_excess(text: str) -> None:
    assert midi_problem(abc_to_midi(tune(f"{PLAIN}|{text}{PLAIN}|"))) == ""


@pytest.mark.parametrize("field", ["I:abc-charset iso-8859-1", 'Q:"in 1850" 1/4=100', "N:1850", "U:k=!1850!"])
def test_numbers_in_a_header_are_no_excess(field: str) -> None:
    assert midi_problem(abc_to_midi(tune(PLAIN, f"{field}\n"))) == ""


@pytest.mark.parametrize(
    ("value", "order"),
    [
        ("AB", "AB"), ("A2B3", "AABBB"), ("(AB)2C", "ABABC"), ("((AB)2.(CD)2)2", "ABABCDCDABABCDCD"),
        ("A10", "A" * 10), ("A B", "AB"), ("A.B", "AB"), ("(A(BC)2)2", "ABCBCABCBC"), ("Variation", None),
        ("VARIATION 8", None), ("5", None), ("(AB", None), ("AB)", None), ("", None), ("A|B", None),
    ],
)  # fmt: skip
def test_an_order_of_parts_expands_as_the_standard_says(value: str, order: str | None) -> None:
    assert play_order(value) == order


@pytest.mark.parametrize("value", ["A99", "((A9)9)9", "A64B", "(" * 99 + "A" + ")" * 99])
def test_the_bound_is_on_what_an_order_expands_to(value: str) -> None:
    with pytest.raises(TooManyParts):
        play_order(value)
    assert midi_problem(abc_to_midi(tune(f"P:A\n{PLAIN}|", f"P:{value}\n"))).endswith(f"{MOST_PARTS} parts")
    with pytest.raises(NotATune, match="64 parts"):
        canonical(tune("P:A\nGAB|", f"P:{value}\n"), FIELDS)


def test_parts_that_make_a_tune_too_long_are_refused_before_they_are_read() -> None:
    with pytest.raises(NotATune, match="a million characters"):
        canonical(tune("P:A\n" + "GABc d4|" * 50_000, "P:A64\n"), FIELDS)


@pytest.mark.parametrize("order", ["AB", "A2B2A2B2A2", "((AB)2.(BA)3)2", "BA", "A3", "ABXA"])
def test_parts_are_written_out_in_their_order_and_heard_so(order: str, hear: Hear) -> None:
    a, b = "GABc d4|", "e4 c4|"
    abc = tune(f"P:A\n{a}\nP:B\n{b}", f"P:{order}\n")
    form = canonical(abc, FIELDS)
    expected = [part for letter in play_order(order) or "" for part in {"A": [a], "B": [b]}.get(letter, [])]
    assert body_of(abc).split("\n") == expected
    if "X" not in order:
        assert hear(form) == hear(abc)


def test_a_part_keeps_its_key_unit_and_repeats_wherever_it_is_played(hear: Hear) -> None:
    abc = tune("z4 G4|\n[P:A]GABc d4::\n[P:B][K:D]FGAB c4|[L:1/4]FG A2|", "P:ABA\n")
    assert body_of(abc) == (
        "z4 G4|\n|:GABc d4:|\n[K:D]FGAB c4|[L:1/4]FG A2|\nK:G\nL:1/8\n|:GABc d4:|"
    )  # fmt: skip
    names = tune("P:Chorus\nGABc d4|\nP:A\nGABc d4|", "P:Chorus, twice\n")
    assert body_of(names) == "GABc d4|\nGABc d4|"
    assert midi_problem(abc_to_midi(names.replace("GABc", PLAIN))) == ""


@pytest.mark.parametrize(
    ("written", "known"),
    [
        ("D", "D"), ("Dmaj", "D"), ("DM", "D"), ("Emin", "Em"), ("E-", "Em"), ("Emi7", "Em7"),
        ("Emin7", "Em7"),
        ("A13", "A9"), ("G/b", "G/B"), ("A7/c#", "A7/C#"), ("G/Bb", "G/Bb"), ("D(Bm)", "D"), ("D (Bm)", "D"),
        ("DMaj7", "Dmaj7"), ("Dma7", "Dmaj7"), ("D°", "Ddim"), ("Do7", "Ddim7"), ("Bø", "Bm7b5"),
        ("C+", "C+"),
        ("C+7", "Caug7"), ("D7b9", "D7"), ("Dadd9", "D"), ("D6/9", "D6"), ("Dm(maj7)", "Dm"), ("F♯m", "F#m"),
        ("D7(b9)", "D7"), ("Cm11", "Cm9"), (" Am ", "Am"), ("Am / G", "Am/G"), ("Gsus", "Gsus"),
    ],
)  # fmt: skip
def test_chord_symbols_are_written_as_abc2midi_knows_them(written: str, known: str) -> None:
    assert chord_symbol(written) == known
    assert body_of(tune(f'"{written}"{PLAIN}|')).startswith(f'"{known}"G')
    assert midi_problem(abc_to_midi(tune(f'"{written}"{PLAIN}|'))) == ""


@pytest.mark.parametrize(
    "text", ["Fine", "Coda", "D.C.", "D.S. al fine", "(Bm)", "N.C.", "f", "Slow", "A MINOR", ""]
)
def test_other_quoted_text_is_no_chord(text: str) -> None:
    assert chord_symbol(text) == ""


@pytest.mark.parametrize(
    ("meter", "tuplet", "quarters"),
    [
        ("4/4", "(10:8:10GABcdefgab", 4), ("12/8", "(9:12:9GABcdefga", 6), ("4/4", "(1:2:1d4", 4),
        ("4/4", "(3GAB", 1), ("4/4", "(3:2GAB", 1), ("4/4", "(3::GAB", 1), ("4/4", "(3:2:2G2A", 1),
        ("6/8", "(2GA", 1.5), ("6/8", "(4GABc", 1.5), ("4/4", "(5GABcd", 1), ("6/8", "(5GABcd", 1.5),
        ("4/4", "(6GABcde", 1), ("4/4", "(7GABcdef", 1), ("9/8", "(7GABcdef", 1.5),
        ("6/8", "(8GABcdefg", 1.5),
        ("4/4", "(9GABcdefga", 1), ("4/4", "(12:8:12GABcdefgabc'd'", 4), ("4/4", "(5:4:6GABcde", 2.4),
        ("4/4", "(15:8:15GABcdefgabagfed", 4), ("4/4", "(11:8:11GABcdefgaba", 4),
    ],
)  # fmt: skip
def test_tuplets_of_any_size_last_what_they_say(meter: str, tuplet: str, quarters: float, hear: Hear) -> None:
    full = {"4/4": 4, "6/8": 3, "12/8": 6, "9/8": 4.5}[meter]
    rest = f"z{round(2 * full)}|"
    abc = f"X:1\nM:{meter}\nL:1/8\nK:G\n{rest}{tuplet}|{rest}G{round(2 * full)}|]\n"
    form = canonical(abc, FIELDS)
    assert f"|{tuplet}|" in form
    start, _, _ = hear(form)[-1]
    assert start / 480 - 2 * full == pytest.approx(quarters, abs=0.02)
    assert (bars_problem(abc) == "") == (quarters == full)


@pytest.mark.parametrize("length", [3, 99, 100, 101, 5000])
@pytest.mark.parametrize("name", ["r", "N", "I"])
def test_a_remark_is_ignored_however_long(name: str, length: int) -> None:
    assert body_of(tune(f"GABc|[{name}:{'so it goes ' * length}]d4|")) == "GABc|d4|"


def test_a_file_header_goes_into_each_tune_that_says_nothing_else() -> None:
    first, second = split_book(
        "%abc-2.1\nM:3/4\nL:1/4\nC:Trad.\nO:Here\nU:W=!trill!\nK:D\nQ:90\n% more\n\nFree text\nM:7/8\n\n"
        "X:1\nT:One\nK:G\nWGAB|\n\nX:2\nM:6/8\nC:Me\nK:D\nDEF|\n"
    )
    assert header(first) == {"X": "1", "M": "3/4", "L": "1/4", "C": "Trad.", "O": "Here", "U": "W=!trill!",
                             "T": "One", "K": "G"}  # fmt: skip
    assert header(second)["M"] == "6/8" and header(second)["C"] == "Me" and header(second)["L"] == "1/4"
    assert body_of(first) == "!trill!GAB|"


@pytest.mark.parametrize(
    "text", ["Dear friend\nM:3/4\n\n", "% only a remark\n\n", "\n\n", "T:Title\nK:D\n\n"]
)
def test_what_is_no_file_header_changes_no_tune(text: str) -> None:
    assert split_book(f"{text}X:1\nK:G\nGAB|\n") == ["X:1\nK:G\nGAB|\n"]


def test_joined_books_have_each_their_own_header() -> None:
    book = "L:1/4\n\nX:1\nK:G\nGAB|\n\ufeffL:1/16\n\nX:2\nK:G\nGAB|\n%abc-2.1\n\nX:3\nK:G\nG|\n"
    assert [header(one).get("L") for one in split_book(book)] == ["1/4", "1/16", "1/16"]
    assert [header(one).get("L") for one in split_book(book.replace("\n%abc", "\n\n%abc"))] == [
        "1/4",
        "1/16",
        None,
    ]


@pytest.mark.parametrize("mark", ["\ufeff", "\ufeff\ufeff"])
def test_a_byte_order_mark_hides_no_tune(mark: str) -> None:
    one = "X:1\nK:G\nGAB|\n"
    assert split_book(f"{mark}{one}{mark}{one}\n{mark}{one}") == [one] * 3
    assert canonical(mark + one, FIELDS) == one


@pytest.mark.parametrize("line", ["X:|", "X::", "X:|]", "X:||"])
def test_rests_before_a_repeat_begin_no_tune(line: str) -> None:
    abc = tune(f"|:{PLAIN}|\n{line}\n|:{PLAIN}:|")
    assert split_book(abc) == [abc]
    assert body_of(abc).count("G2B2") == 2
    assert len(abc_to_midi(abc).data) > 200 and abc_to_midi(abc).notes >= 2 * 24


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("&quot;D&quot;GAB|", '"D"GAB|'), ("&#34;D&#x22;GAB|", '"D"GAB|'),
        ("&amp;quot;D&amp;quot;GAB|", '"D"GAB|'),
        ("G&lt;A B&gt;c|", "G<A B>c|"), ("GAB|<br>", "GAB|"), ("GAB|<BR/>", "GAB|"), ("G&nbsp;AB|", "G AB|"),
        ("GAB&GAB|", "GAB&GAB|"), ("GAB &amp; GAB|", "GAB & GAB|"), ("“D”GAB|", '"D"GAB|'),
    ],
)  # fmt: skip
def test_what_html_escapes_is_unescaped_and_never_a_voice(written: str, read: str) -> None:
    assert body_of(tune(written)) == read
    assert split_book(tune(written))[0].split("\n")[4].strip() in (read, written)


@pytest.mark.parametrize(
    ("written", "title"),
    [
        (r"Caf\'e", "Café"), (r"\u00e9t\u00E9", "été"), ("&eacute;t&#233;", "été"),
        (r"\`a \^o \"u \~n \,c", "à ô ü ñ ç"),
        (r"\oe\ae\ss\/o\AA", "œæßøÅ"), (r"\vs \=a", "š ā"), (r"a\b", r"a\b"),
        ("Tom &amp; Jerry", "Tom & Jerry"),
        (r"\u000a\u0000", r"\u000a\u0000"),
    ],
)  # fmt: skip
def test_letters_with_accents_may_be_written_with_escapes(written: str, title: str) -> None:
    assert header(canonical(tune("GAB|", f"T:{written}\n"), FIELDS))["T"] == title


def test_what_html_escapes_is_heard_as_it_is_meant() -> None:
    assert abc_to_midi(tune(f"&quot;G&quot;{PLAIN}|")) == abc_to_midi(tune(f'"G"{PLAIN}|'))


def test_a_line_end_closes_a_full_bar_and_no_other() -> None:
    assert bars_problem(tune("GABc d4\nGABc d4|GABc\nd4|")) == ""
    assert bars_problem(tune("GABc d4|GABc d4 GABc d4|GABc d4|")) == "bar 2 lasts 8/4 of 4/4"
    assert bars_problem(tune("GABc d4|GABc d2\nGA GABc|GABc d4|")) == "bar 2 lasts 6/4 of 4/4"


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("|::GABc d4::|", "|:GABc d4:|GABc d4|"),
        ("|:::GABc d4:::|", "|:GABc d4:|GABc d4|GABc d4|"),
        ("|::GABc d4|\ne4 f4::|g8|", "|:GABc d4|\ne4 f4:|GABc d4| e4 f4|g8|"),
        ("GABc d4::|e8|", "GABc d4:|e8|"),
        ("|::GABc d4:|e8|", "|:GABc d4:|e8|"),
        ("GABc d4::e4 f4:|", "GABc d4::e4 f4:|"),
        ("|:GABc d4::e4 f4|]", "|:GABc d4:|e4 f4|]"),
        ("GABc d4|:e4 f4|]", "GABc d4|e4 f4|]"),
        ("GABc d4|e4 f4|:|", "GABc d4|e4 f4|"),
        ("GABc d4|:e4 f4|:|", "GABc d4|:e4 f4:|"),
        ("GABc d4||]e4 f4|]", "GABc d4|]e4 f4|]"),
    ],
)
def test_repeats_are_written_so_that_players_play_them(written: str, plain: str) -> None:
    assert body_of(tune(written)) == plain
    assert abc_to_midi(tune(plain)).errors == []


@pytest.mark.parametrize(("written", "kept"), [("GABc d4Hx||", "GABc d4||"), ("GABc d3 x|", "GABc d3 x|")])
def test_a_sign_over_a_bar_line_takes_no_time(written: str, kept: str) -> None:
    assert body_of(tune(written)) == kept
    assert bars_problem(tune(kept)) == ""


def test_chords_may_stand_among_grace_notes(hear: Hear) -> None:
    abc = tune("{[GB]}d8|{a[GB]c}d4 {f}e4|")
    assert body_of(abc) == "{[GB]}d8|{a[GB]c}d4 {f}e4|"
    assert bars_problem(abc) == ""
    assert hear(canonical(abc, FIELDS)) == hear(abc)
    for wrong in ("{[GB}d8|", "{a{b}}d8|", "[G{a}B]d8|", "{[GB]d8|"):
        with pytest.raises(NotATune, match="unbalanced"):
            canonical(tune(wrong), FIELDS)


@pytest.mark.parametrize(
    ("field", "kept"),
    [
        ('Q:"Allegro" 1/4=120', "1/4=120"), ('Q:3/8=110 "lively"', "3/8=110"), ("Q:120", "120"),
        ('Q:"Andante"', None), ("Q:slowly", None), ("Q:1/4=ca. 100", None), ("Q:C3=80", "C3=80"),
    ],
)  # fmt: skip
def test_a_tempo_is_kept_if_it_is_one(field: str, kept: str | None) -> None:
    assert header(canonical(tune("GAB|", f"{field}\n"), FIELDS)).get("Q") == kept


@pytest.mark.parametrize(
    "abc",
    [
        tune(f"{PLAIN}|", "R:hornpipe\n").replace("4/4", "C|"),
        tune("g>.e .c>A G2G2|" * 6),
        tune("Hg>e c>HA (G>A) .B>(u.A|" * 6),
        tune("e.B-~B2 efge|" * 6),
        tune("GA.B.c .d(e^de) g2f2|" * 4, "R:hornpipe\n"),
        tune(f"{PLAIN}|", "I:MIDI=program 40\n"),
        tune(f"{PLAIN}|", key="G foo=3"),
        tune("GABc d4|" * 4).replace("1/8", "1"),
    ],
    ids=["hornpipe", "dots", "fermatas", "rolls", "dots-in-hornpipes", "instruction", "key", "unit"],
)
def test_what_abc2midi_alone_complains_of_fails_no_tune(abc: str) -> None:
    form = canonical(abc, FIELDS)
    assert abc_to_midi(form).errors == [] and abc_to_midi(form).notes == abc_to_midi(abc).notes
