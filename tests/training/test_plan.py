"""The plan of batches: a function of (seed, step), which misses nothing and repeats nothing."""

from collections import Counter

import numpy as np
import pytest

from reelmill.corpus.vocabulary import END, START, Vocabulary
from reelmill.errors import DamagedError, RequestError
from reelmill.training.encoded import encode_tunes, open_encoded
from reelmill.training.plan import IGNORED, RandomWindows, Streams

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


@pytest.mark.parametrize("kind", [RandomWindows, Streams])
def test_a_batch_depends_on_seed_and_step_alone(tunes, kind):
    forwards, backwards = kind(tunes, 5, 4, 10), kind(tunes, 5, 4, 10)
    ahead = [forwards.batch(step).digest for step in range(60)]
    assert ahead == [backwards.batch(step).digest for step in reversed(range(60))][::-1]
    assert len(set(ahead)) == 60
    assert kind(tunes, 6, 4, 10).batch(3).digest != ahead[3]


def test_windows_are_pieces_of_the_tunes(tunes):
    everything = np.asarray(tunes.characters).tobytes()
    for step in range(20):
        batch = RandomWindows(tunes, 1, 4, 30).batch(step)
        for row, targets in zip(batch.inputs, batch.targets, strict=True):
            assert row.astype(tunes.characters.dtype).tobytes() in everything
            shown = targets[:-1] != IGNORED
            assert np.array_equal(targets[:-1][shown], row[1:][shown])


def test_windows_begin_everywhere(tunes):
    plan = RandomWindows(tunes, 1, 50, 3)
    seen = {row.tobytes() for step in range(100) for row in plan.batch(step).inputs}
    everything = np.asarray(tunes.characters, dtype=np.int64)
    wanted = {everything[at : at + 3].tobytes() for at in range(len(everything) - 3)}
    assert seen == wanted


def test_the_start_of_the_next_tune_is_no_target(tunes):
    for plan in (RandomWindows(tunes, 1, 8, 50), Streams(tunes, 1, 8, 50)):
        batch = plan.batch(0)
        assert START not in batch.targets
        assert np.all(batch.inputs[:, 1:][batch.targets[:, :-1] == IGNORED] <= END)
        assert batch.characters == np.count_nonzero(batch.targets != IGNORED) < batch.targets.size


@pytest.mark.parametrize(("rows", "length"), [(1, 7), (4, 10), (7, 64), (3, 1000)])
def test_a_stream_reads_every_tune_once_an_epoch(tunes, rows, length):
    plan = Streams(tunes, 3, rows, length)
    for epoch in range(3):
        targets = Counter()
        for step in range(1000):
            if plan.epoch_of(step) == epoch:
                batch = plan.batch(step)
                targets.update(batch.targets[batch.targets != IGNORED].tolist())
        expected = Counter(np.asarray(tunes.characters).tolist())
        del expected[START]
        assert targets == expected


def test_a_stream_goes_on_where_it_was(tunes):
    plan = Streams(tunes, 3, 4, 10)
    steps = [step for step in range(100) if plan.epoch_of(step) == 1]
    row = np.concatenate([plan.batch(step).inputs[2] for step in steps])
    targets = np.concatenate([plan.batch(step).targets[2] for step in steps])
    shown = targets[:-1] != IGNORED
    assert np.array_equal(targets[:-1][shown], row[1:][shown])


def test_the_order_differs_from_epoch_to_epoch(tunes):
    plan = Streams(tunes, 3, 1, 10_000)
    assert [plan.epoch_of(step) for step in range(3)] == [0, 1, 2]
    assert len({plan.batch(step).digest for step in range(20)}) == 20


def test_an_epoch_takes_one_copy_of_each_tune(tunes_with_copies):
    tunes = tunes_with_copies
    plan = Streams(tunes, 0, 1, 10_000)
    taken = set()
    for epoch in range(12):
        texts = _texts(plan.batch(epoch).inputs[0])
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
