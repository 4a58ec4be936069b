"""Items whose pictures, or whose texts, are the same or nearly so.

All pairs are never compared. Two hashes that differ in at most r of their bits agree on at least
one of r + 1 bands of bits, and two sets of words that differ in at most r words on at least one of
r + 1 parts of the vocabulary, so only those are compared that agree on one (the pigeonhole
principle; for sets: Arasu, Ganti and Kaushik, VLDB 2006, "Efficient Exact Set-Similarity Joins").
"""

import hashlib
import re
import unicodedata
from array import array
from collections.abc import Callable, Iterator, Sequence

import imagehash
import numpy as np
from PIL import Image, ImageStat
from scipy import sparse
from scipy.sparse.csgraph import connected_components

# The side of the square of frequencies that a hash keeps the signs of. With the usual 8, clothes
# of one cut photographed alike are as close as copies of one picture; with 16 they are not.
HASH_SIDE = 16
BITS = HASH_SIDE**2
# At most so many bits differ between copies: scaled, compressed down to quality 50, 10 % brighter.
MAX_BITS = 10
# The side of the picture that a hash is taken from.
HASHED_SIDE = 4 * HASH_SIDE
# Grey levels, standard deviation: below it there is nothing to see, and a hash is of noise.
BLANK = 1.0
# Two texts are nearly the same when they share this part of all their words.
SHARED_WORDS = 0.9
# Those that agree on a band stand in a row, and each is compared with so many after it. It is more
# than ever agree by chance, and it bounds the time where a catalogue is made of one pattern.
REACH = 100
COMPARED_AT_ONCE = 200_000

# A script that is written without spaces gives its characters as words.
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff]+")

Groups = list[list[int]]
Pairs = tuple[np.ndarray, np.ndarray]


class PictureHashes:
    """What is kept of each picture, 40 bytes, to tell which are nearly the same.

    Args:
        n: How many items there are.
    """

    def __init__(self, n: int) -> None:
        self._hashes = np.zeros((n, BITS // 8), np.uint8)
        self._hashed = np.zeros(n, bool)
        self._files = np.zeros(n, np.uint64)

    def add(self, row: int, digest: bytes, hashed: bytes | None) -> None:
        """Keep a picture.

        Args:
            row: Of which item.
            digest: `file_digest` of its file.
            hashed: `perceptual_hash` of its pixels.
        """
        self._files[row] = int.from_bytes(digest, "little") | 1  # 0 stands for none
        if hashed is not None:
            self._hashes[row] = np.frombuffer(hashed, np.uint8)
            self._hashed[row] = True

    def groups(self) -> Groups:
        """The rows of pictures that are nearly the same, or whose files are equal."""
        there = np.flatnonzero(self._files)
        hashed = np.flatnonzero(self._hashed)
        same = _equal(self._files[there])
        near = near_hashes(self._hashes[hashed], MAX_BITS)
        return _groups(
            len(self._files), [(there[same[0]], there[same[1]]), (hashed[near[0]], hashed[near[1]])]
        )


def file_digest(data: bytes) -> bytes:
    """Eight bytes that tell one file from another."""
    return hashlib.blake2b(data, digest_size=8).digest()


def perceptual_hash(picture: Image.Image) -> bytes | None:
    """The pHash of a picture, `BITS` bits; None of one that is blank.

    Args:
        picture: At least `HASHED_SIDE` pixels each way, lest it depends on how it is enlarged.
    """
    small = picture.convert("L").resize((HASHED_SIDE, HASHED_SIDE), Image.Resampling.LANCZOS)
    if ImageStat.Stat(small).stddev[0] < BLANK:
        return None
    return np.packbits(imagehash.phash(small, HASH_SIDE).hash).tobytes()


def near_hashes(hashes: np.ndarray, most: int) -> Pairs:
    """All pairs of hashes that differ in at most so many bits; equal ones as a chain.

    Args:
        hashes: (n, bytes) uint8, the bytes a multiple of eight.
        most: How many bits.
    """
    words = np.ascontiguousarray(hashes).view(np.uint64)
    distinct, first, place = np.unique(words, axis=0, return_index=True, return_inverse=True)

    def near(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.bitwise_count(distinct[a] ^ distinct[b]).sum(axis=1) <= most

    found = _agreeing(_bands(hashes[first], most + 1), near)
    return _joined([_equal(place.reshape(-1)), (first[found[0]], first[found[1]])])


def near_texts(texts: Sequence[str | None], share: float = SHARED_WORDS) -> Groups:
    """The rows of texts that share so much of all their words, in whatever order.

    Case, punctuation and how often a word comes do not count. Texts with fewer than ten words must
    therefore have the same ones. A blank text is like no other.
    """
    words = _word_sets(texts)
    there = np.flatnonzero(np.diff(words.indptr))
    sums = _sums(words, np.zeros(words.shape[1], np.int64), 1)[there, 0]
    first = there[np.unique(sums, return_index=True)[1]]
    sets = words[first]
    sizes = np.diff(sets.indptr)

    def near(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        common = np.asarray(sets[a].multiply(sets[b]).sum(axis=1)).reshape(-1)
        # The tiny amount is for what a fraction such as .9 lacks in floating point.
        return common >= share * (sizes[a] + sizes[b] - common) - 1e-9

    same = _equal(sums)
    pairs = [(there[same[0]], there[same[1]])]
    for window, differing in _windows(sizes, share):
        part = _mixed(np.arange(sets.shape[1]), 2) % np.uint64(differing + 1)
        keys = _sums(sets[window], part.astype(np.int64), differing + 1)

        def near_here(a: np.ndarray, b: np.ndarray, window: np.ndarray = window) -> np.ndarray:
            return near(window[a], window[b])

        found = _agreeing(iter(keys.T), near_here)
        pairs.append((first[window[found[0]]], first[window[found[1]]]))
    return _groups(len(texts), pairs)


def _bands(hashes: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """The bits of hashes in so many bands, each as one number."""
    # Neighbouring bits are of neighbouring frequencies and vary together, so each band takes them
    # from everywhere.
    for band in range(count):
        key = np.zeros(len(hashes), np.uint64)
        for bit in range(band, hashes.shape[1] * 8, count):
            byte = hashes[:, bit // 8] >> np.uint8(bit % 8) & np.uint8(1)
            key = key << np.uint64(1) | byte
        yield key


def _windows(sizes: np.ndarray, share: float) -> Iterator[tuple[np.ndarray, int]]:
    """Sets of similar sizes, and in how many words two of them that are near differ at most.

    Two sets of which the smaller has less than `share` of the larger one's size are never near; all
    others stand together in one of the windows.
    """
    low = below = 1
    while below <= sizes.max(initial=0):
        above = int(below / share) + 1
        window = np.flatnonzero((sizes >= low) & (sizes < above))
        differing = int(2 * (above - 1) * (1 - share) / (1 + share) + 1e-9)
        if differing and len(window) > 1:
            yield window, differing
        low, below = below, above


def _agreeing(
    keys: Iterator[np.ndarray], near: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> Pairs:
    """The pairs that are near, among those that agree on one of the keys."""
    found = []
    for key in keys:
        order = np.argsort(key, kind="stable")
        ordered = key[order]
        at = np.arange(len(key))
        for step in range(1, REACH):
            at = at[at + step < len(key)]
            at = at[ordered[at] == ordered[at + step]]
            if not len(at):
                break
            for start in range(0, len(at), COMPARED_AT_ONCE):
                some = at[start : start + COMPARED_AT_ONCE]
                a, b = order[some], order[some + step]
                close = near(a, b)
                found.append((a[close], b[close]))
    return _joined(found)


def _equal(keys: np.ndarray) -> Pairs:
    """Each with the next that is equal."""
    order = np.argsort(keys, kind="stable")
    same = np.flatnonzero(keys[order[1:]] == keys[order[:-1]])
    return order[same], order[same + 1]


def _joined(pairs: Sequence[Pairs]) -> Pairs:
    nothing = np.empty(0, np.int64)
    a, b = ([nothing, *(pair[side] for pair in pairs)] for side in (0, 1))
    return np.concatenate(a), np.concatenate(b)


def _groups(n: int, pairs: Sequence[Pairs]) -> Groups:
    """Rows that are linked by pairs, by way of others, too; in order."""
    a, b = _joined(pairs)
    graph = sparse.coo_array((np.ones(len(a), bool), (a, b)), (n, n))
    label = connected_components(graph, directed=False)[1]
    linked = np.unique(np.concatenate([a, b]))
    order = linked[np.argsort(label[linked], kind="stable")]
    ends = np.flatnonzero(np.diff(label[order])) + 1
    return sorted(group.tolist() for group in np.split(order, ends) if len(group))


def _word_sets(texts: Sequence[str | None]) -> sparse.csr_array:
    """(texts, vocabulary), 1 where a text has a word."""
    vocabulary: dict[str, int] = {}
    columns, ends = array("i"), array("q", [0])
    for text in texts:
        plain = unicodedata.normalize("NFKC", text or "").casefold().strip()
        # Of signs alone, the whole is the word.
        words = set(WORD.findall(plain)) or ({plain} if plain else set())
        columns.extend(vocabulary.setdefault(word, len(vocabulary)) for word in words)
        ends.append(len(columns))
    shape = (len(texts), max(len(vocabulary), 1))
    ones = np.ones(len(columns), np.int8)
    return sparse.csr_array((ones, np.asarray(columns), np.asarray(ends)), shape)


def _sums(sets: sparse.csr_array, part: np.ndarray, parts: int) -> np.ndarray:
    """Per set and part of the vocabulary a number that stands for the set's words in it."""
    sums = np.zeros((sets.shape[0], parts), np.uint64)
    row = np.repeat(np.arange(sets.shape[0]), np.diff(sets.indptr))
    np.add.at(sums, (row, part[sets.indices]), _mixed(sets.indices, 1))
    return sums


def _mixed(numbers: np.ndarray, salt: int) -> np.ndarray:
    """Numbers as random ones of 64 bits (Steele, Lea and Flood's SplitMix64)."""
    mixed = (numbers.astype(np.uint64) + np.uint64(salt << 32)) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))
