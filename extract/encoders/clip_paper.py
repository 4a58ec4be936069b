"""CLIP as the published work's code fed it, kept only to compare with.

That code gave CLIP the pictures of another model's transform: squeezed into a square, with mean
and deviation 0.5 instead of CLIP's own. And it cut texts to CLIP's 77 tokens by taking their first
77 characters. The model and its weights are those of `extract.encoders.clip`, which does it right.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from extract.encoders.base import PrepareText
from extract.encoders.clip import DEFAULT, ClipEncoder, load_clip

CHARACTERS = 77
PREPROCESSING = {
    "image_mean": (0.5, 0.5, 0.5),
    "image_std": (0.5, 0.5, 0.5),
    "image_interpolation": "bicubic",
    "image_resize_mode": "squash",
}


@dataclass(frozen=True)
class FirstCharacters:
    """A preparation of texts that sees the first `CHARACTERS` of each only.

    Attributes:
        prepare: From what is left of a text to its ids.
    """

    prepare: PrepareText

    def __call__(self, text: str) -> list[int]:
        """The ids of the beginning of a text."""
        return self.prepare(text[:CHARACTERS])


class PaperClipEncoder(ClipEncoder):
    """A `ClipEncoder` of which the text is cut by characters."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.prepare_text = FirstCharacters(self.prepare_text)

    def identity(self) -> Mapping[str, Any]:
        """Architecture, transform, tokenizer, and the cut."""
        return {**super().identity(), "family": "clip-paper", "characters": CHARACTERS}


def create_clip_paper(name: str) -> ClipEncoder:
    """The encoder of ``clip-paper``, ``clip-paper:MODEL/TAG_OR_FILE`` or ``clip-paper:FOLDER``.

    Raises:
        UserError: As for the same name of the family ``clip``.
    """
    return load_clip(f"clip-paper:{name or DEFAULT}", PaperClipEncoder, **PREPROCESSING)
