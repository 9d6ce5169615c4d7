"""The batch schedule: a function of (seed, step), which misses nothing and repeats nothing."""

from collections import Counter

import numpy as np
import pytest

from reelmill.corpus.encoded import encode_tunes, open_encoded
from reelmill.corpus.vocabulary import END, START, Vocabulary
from reelmill.errors import DamagedError, RequestError
from reelmill.training.schedule import IGNORED, RandomWindows, Streams, WholeTunes, shares

TUNES = [[f"X:{number}\nK:D\n" + "DEFG|"[: number % 5 + 1] * (number % 7 + 1)] for number in range(40)]
VOCABULARY = Vocabulary.from_texts(text for copies in TUNES for text in copies)


@pytest.fixture
def tunes(tmp_path):
    encode_tunes(TUNES, VOCABULARY, tmp_path / "encoded")
    return open_encoded(tmp_path / "encoded")


@pytest.fixture
def tunes_with_copies(tmp_path):
    copies = [
        [text, *(text.replace("D", key) for key in "ABC"[: number % 4])]
        for number, [text] in enumerate(TUNES)
    ]
    vocabulary = Vocabulary.from_texts(text for texts in copies for text in texts)
    encode_tunes(copies, vocabulary, tmp_path / "copies")
    return open_encoded(tmp_path / "copies")


@pytest.mark.parametrize("kind", [RandomWindows, Streams, WholeTunes])
def test_a_batch_depends_on_seed_and_step_alone(tunes, kind):
    forwards, backwards = kind(tunes, 5, 4, 10), kind(tunes, 5, 4, 10)
    ahead = [forwards.facts(step).digest for step in range(60)]
    assert ahead == [backwards.facts(step).digest for step in reversed(range(60))][::-1]
    assert len(set(ahead)) == 60
    assert kind(tunes, 6, 4, 10).facts(3).digest != ahead[3]


@pytest.mark.parametrize("kind", [RandomWindows, Streams, WholeTunes])
@pytest.mark.parametrize("processes", [2, 3, 7])
def test_processes_build_their_own_rows_of_one_batch(tunes, kind, processes):
    schedule = kind(tunes, 5, 7, 10)
    for step in range(30):
        whole = schedule.rows(step, range(7))
        parts = [schedule.rows(step, rows) for rows in shares(7, processes)]
        for name, fill in (("inputs", END), ("targets", IGNORED)):  # rows are as long as they need be
            time = whole.inputs.shape[1]
            rows = [np.pad(getattr(part, name), ((0, 0), (0, time)), constant_values=fill) for part in parts]
            joined = np.concatenate([some[:, :time] for some in rows])
            assert np.array_equal(joined, getattr(whole, name))
        assert schedule.facts(step).characters == np.count_nonzero(whole.targets != IGNORED)


def test_shares_cover_everything_evenly():
    for total in range(1, 20):
        for parts in range(1, total + 1):
            cut = shares(total, parts)
            assert [item for share in cut for item in share] == list(range(total))
            assert max(map(len, cut)) - min(map(len, cut)) <= 1


def test_windows_are_pieces_of_the_tunes(tunes):
    everything = np.asarray(tunes.characters).tobytes()
    for step in range(20):
        batch = RandomWindows(tunes, 1, 4, 30).rows(step, range(4))
        for row, targets in zip(batch.inputs, batch.targets, strict=True):
            assert row.astype(tunes.characters.dtype).tobytes() in everything
            shown = targets[:-1] != IGNORED
            assert np.array_equal(targets[:-1][shown], row[1:][shown])


def test_windows_begin_everywhere(tunes):
    schedule = RandomWindows(tunes, 1, 50, 3)
    seen = {row.tobytes() for step in range(100) for row in schedule.rows(step, range(50)).inputs}
    everything = np.asarray(tunes.characters, dtype=np.int64)
    wanted = {everything[at : at + 3].tobytes() for at in range(len(everything) - 3)}
    assert seen == wanted


def test_the_start_of_the_next_tune_is_no_target(tunes):
    for schedule in (RandomWindows(tunes, 1, 8, 50), Streams(tunes, 1, 8, 50)):
        batch = schedule.rows(0, range(8))
        assert START not in batch.targets
        assert np.all(batch.inputs[:, 1:][batch.targets[:, :-1] == IGNORED] <= END)
        assert schedule.facts(0).characters < batch.targets.size


@pytest.mark.parametrize(("rows", "length"), [(1, 7), (4, 10), (7, 64), (3, 1000)])
def test_a_stream_reads_every_tune_once_an_epoch(tunes, rows, length):
    schedule = Streams(tunes, 3, rows, length)
    for epoch in range(3):
        targets = Counter()
        for step in range(1000):
            if schedule.facts(step).epoch == epoch:
                batch = schedule.rows(step, range(rows))
                targets.update(batch.targets[batch.targets != IGNORED].tolist())
        expected = Counter(np.asarray(tunes.characters).tolist())
        del expected[START]
        assert targets == expected


def test_a_stream_goes_on_where_it_was(tunes):
    schedule = Streams(tunes, 3, 4, 10)
    batches = [schedule.rows(step, range(2, 3)) for step in range(100) if schedule.facts(step).epoch == 1]
    row = np.concatenate([batch.inputs[0] for batch in batches])
    targets = np.concatenate([batch.targets[0] for batch in batches])
    shown = targets[:-1] != IGNORED
    assert np.array_equal(targets[:-1][shown], row[1:][shown])


def test_the_order_differs_from_epoch_to_epoch(tunes):
    schedule = Streams(tunes, 3, 1, 10_000)
    assert [schedule.facts(step).epoch for step in range(3)] == [0, 1, 2]
    assert len({schedule.rows(step, range(1)).inputs.tobytes() for step in range(20)}) == 20


def test_an_epoch_takes_one_copy_of_each_tune(tunes_with_copies):
    tunes = tunes_with_copies
    schedule = Streams(tunes, 0, 1, 10_000)
    taken = set()
    for epoch in range(12):
        texts = _texts(schedule.rows(epoch, range(1)).inputs[0])
        assert len(texts) == len(tunes)
        taken |= texts
    copies = {
        tuple(tunes.characters[begin:end]) for begin, end in zip(tunes.bounds, tunes.bounds[1:], strict=False)
    }
    assert taken <= copies
    assert len(taken) > 0.9 * len(copies)


def _texts(row):
    starts = np.flatnonzero(row == START)
    return {tuple(part.tolist()) for part in np.split(row, starts[1:])}


def test_whole_tunes_once_an_epoch_beside_others_of_like_length(tunes_with_copies):
    tunes = tunes_with_copies
    schedule, taken, widths = WholeTunes(tunes, 0, 7, 10_000), set(), []
    for epoch in range(12):
        read = []
        for step in range(epoch * 6, epoch * 6 + 6):  # 40 tunes in batches of 7
            assert schedule.facts(step).epoch == epoch
            batch = schedule.rows(step, range(7))
            lengths = np.count_nonzero(batch.targets != IGNORED, axis=1)
            widths.append(batch.inputs.shape[1] - lengths[lengths > 0].min())
            for row, targets, length in zip(batch.inputs, batch.targets, lengths, strict=True):
                if length:
                    assert row[0] == START and targets[length - 1] == END
                    assert np.array_equal(targets[: length - 1], row[1:length])
                    read.append((*row[:length].tolist(), END))
        assert len(read) == len(tunes)
        taken.update(read)
    copies = {
        tuple(tunes.characters[begin:end]) for begin, end in zip(tunes.bounds, tunes.bounds[1:], strict=False)
    }
    assert taken <= copies
    assert len(taken) > 0.9 * len(copies)
    assert np.mean(widths) < 0.4 * (max(map(len, copies)) - min(map(len, copies)))


def test_long_tunes_are_read_from_their_beginning(tunes):
    schedule = WholeTunes(tunes, 0, 40, 12)
    batch = schedule.rows(0, range(40))
    assert batch.inputs.shape == (40, 12) and set(batch.inputs[:, 0]) == {START}
    assert schedule.facts(0).characters == np.count_nonzero(batch.targets != IGNORED)


def test_too_short_tunes_for_a_window(tunes):
    with pytest.raises(RequestError, match=r"training\.sequence_length = 100000"):
        RandomWindows(tunes, 0, 2, 100_000)


def test_encoded_tunes_can_be_read_back(tunes):
    texts = [
        VOCABULARY.decode(tunes.characters[begin:end])
        for begin, end in zip(tunes.bounds, tunes.bounds[1:], strict=False)
    ]
    assert texts == [text for copies in TUNES for text in copies]
    assert tunes.characters.dtype == np.uint8


def test_cut_off_encoded_tunes_are_named(tunes, tmp_path):
    path = tmp_path / "encoded" / "characters.bin"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DamagedError, match="encoded"):
        open_encoded(tmp_path / "encoded")
