"""``checkpoint.pt``: training between two steps or epochs, to go on from there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch

from extract.errors import UserError
from extract.files import local_copy, replacing
from recommend.state import State

FORMAT = "mmrec-checkpoint-1"


@dataclass(frozen=True)
class Checkpoint:
    """Training between two steps.

    Attributes:
        made_from: Name to digest of all that decides the result, by which it is known again.
        seconds: How long it had taken.
        lines: By journal, what had been written.
        state: The state of training.
    """

    made_from: Mapping[str, str]
    seconds: float
    lines: Mapping[str, Sequence[str]]
    state: State

    @property
    def epoch(self) -> int:
        """Epochs that are done."""
        epoch: int = self.state["epoch"]
        return epoch

    def save(self, path: Path) -> None:
        """Write it whole or not at all."""
        with replacing(path) as temporary, temporary.open("wb") as file:
            torch.save({"format": FORMAT} | vars(self), file)

    @classmethod
    def load(cls, path: Path, remedy: str = "") -> "Checkpoint | None":
        """What `save` wrote; None where there is no such file.

        Args:
            path: The file.
            remedy: How to start anew; by default as for a run.

        Raises:
            UserError: It is torn, or something else.
        """
        try:
            with local_copy(path) as file:
                # Tensors and plain values only: a file from elsewhere runs no code.
                content = torch.load(file, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return None
        except Exception as error:  # of a torn file, pickle and zip raise whatever they like
            why = f"cannot be read, it may be torn ({error!r:.100})"
            raise _unusable(path, why, remedy) from error
        names = {"format", *(field.name for field in fields(cls))}
        if not isinstance(content, dict) or content.keys() != names:
            raise _unusable(path, "is no checkpoint of ours", remedy)
        if content.pop("format") != FORMAT:
            raise _unusable(path, f"is not of the format {FORMAT}", remedy)
        return cls(**content)

    def check_made_from(self, now: Mapping[str, str], path: Path, remedy: str = "") -> None:
        """Refuse to go on with anything else than what training was begun with.

        Args:
            now: What `made_from` would be now.
            path: The checkpoint's file, for the message.
            remedy: How to start anew; by default as for a run.

        Raises:
            UserError: Something has changed, which is named.
        """
        changed = [name for name, value in now.items() if self.made_from.get(name) != value]
        if changed:
            raise _unusable(path, f"is of other {' and '.join(changed)} than there are now", remedy)


def _unusable(path: Path, why: str, remedy: str) -> UserError:
    what = "training" if remedy else "the run"
    remedy = remedy or f"start it anew with mmrec-train --config {path.with_name('config.toml')}"
    return UserError(f"{path} {why}, so {what} cannot go on; {remedy}")
