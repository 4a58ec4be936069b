"""What a comparison says: the content of ``comparison.json``, from which tables and pages are made.

Numbers only, and the words that name them; whoever shows them adds the layout.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from extract.errors import UserError
from extract.files import write_json
from pipelines.workspace import read_json

Format = Literal["mmrec-comparison/1"]
FORMAT: Format = "mmrec-comparison/1"
COMPARISON = "comparison.json"

Question = Literal["content", "encoder", "fine-tuning", "end-to-end", "model"]
# What is asked, in the order in which it is told.
QUESTIONS: dict[Question, str] = {
    "content": "Is it content, or would any vectors do?",
    "encoder": "Do large multimodal encoders beat modality-specific ones?",
    "fine-tuning": "Does fine-tuning the encoder help?",
    "end-to-end": "Does training through the encoder help more?",
    "model": "Do multimodal recommenders beat those that see interactions only?",
}


class Part(BaseModel):
    """A part of the document; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Estimate(Part):
    """A mean over users, of means over seeds, with its bootstrap interval over users.

    `seeds` are the means of each seed, in the order of the system's `seeds`. A number that cannot
    be told, as of a slice that holds nothing, is None.
    """

    mean: float | None
    low: float | None
    high: float | None
    seeds: tuple[float | None, ...] = ()


class SliceEstimate(Part):
    """How well one slice is served: pooled recall of its held-out pairs, or a mean over its users.

    Attributes:
        kind: What is sliced by, such as ``item popularity`` or ``user activity``.
        name: Of the slice, such as ``rarest fifth``.
        members: How many items or users are in it.
        pairs: How many held-out pairs it is judged by.
        recall: Recall at the comparison's cutoff.
    """

    kind: str
    name: str
    members: int
    pairs: int
    recall: Estimate


class System(Part):
    """What was compared: runs that differ in nothing but their seed.

    Attributes:
        name: Short and unique within the comparison, such as ``freedom · offline``.
        model: Of `MODELS`.
        features: Name of the feature set, of a control, or ``none``.
        regime: ``frozen``, ``tuned``, ``refresh`` or ``end-to-end``.
        control: Whether, and how, its features are no content.
        scores_unseen: Whether it can tell items apart that nobody took in training; None where
            nothing was seen of it.
        settings: Settings that are not the defaults, such as ``model.reg``, to their values.
        searched: How many trials chose the settings; 0 if nobody searched.
        runs: Names of the runs' folders, one a seed.
        seeds: Their seeds.
        epochs: The epoch of the best weights, one a seed.
        seconds: What each run took.
        test: Metric to estimate, on the test interactions.
        beyond: ``coverage@20``, ``gini@20``, ``novelty@20``, ``popularity@20``, ``diversity@20``,
            means over seeds.
        slices: By kind, in order.
    """

    name: str
    model: str
    features: str
    regime: str
    control: Literal["random", "shuffled"] | None = None
    scores_unseen: bool | None = None
    settings: dict[str, str] = {}
    searched: int = 0
    runs: tuple[str, ...]
    seeds: tuple[int, ...]
    epochs: tuple[int, ...]
    seconds: tuple[float, ...]
    test: dict[str, Estimate]
    beyond: dict[str, float | None] = {}
    slices: tuple[SliceEstimate, ...] = ()


class Contrast(Part):
    """One system against another.

    Attributes:
        question: That it is about.
        ours: A system.
        theirs: The other.
        metric: Of the same users or, where it is one of cold items, of the same items.
        difference: Ours less theirs, the mean.
        low: Lower end of its interval.
        high: Upper end.
        p: Of the test.
        p_corrected: Holm's, over all contrasts of the document.
        effect: Cohen's d_z; None where all differences are the same.
        better: Share of users, or of items, with more.
        worse: Share with less.
        one_sign: Whether what was tested has the sign of `difference`: ranks may not.
    """

    question: Question
    ours: str
    theirs: str
    metric: str
    difference: float
    low: float
    high: float
    p: float
    p_corrected: float
    effect: float | None
    better: float
    worse: float
    one_sign: bool = True


class PublishedFigure(Part):
    """A published figure beside ours, where data and protocol are the same."""

    system: str
    metric: str
    published: float
    ours: float
    source: str
    note: str = ""


class Failure(Part):
    """A cell that gave no result."""

    cell: str
    error: str


class Answer(Part):
    """One sentence that answers a question, drawn from the numbers."""

    question: str
    sentence: str


class Comparison(Part):
    """The document.

    Attributes:
        format: `FORMAT`.
        name: Of the comparison.
        dataset: What was compared on.
        split: How the log was split: ``random``, ``temporal``, ``item-cold`` ...
        protocol: ``strict`` or ``mmrec``.
        users: Test users that all runs were judged by.
        primary: The metric of contrasts and slices.
        confidence: Of all intervals.
        test: Which test gave the p-values.
        systems: What was compared, best first by the primary metric.
        contrasts: In the order of `QUESTIONS`.
        answers: What may be concluded, in sentences.
        published: Published figures beside ours.
        failures: Cells without a result.
        facts: What ran on what: versions, machine, digests; label to value.
        command: What makes the comparison again.
        made: When it was made, in ISO format.
    """

    format: Format = FORMAT
    name: str
    dataset: str
    split: str
    protocol: str
    users: int
    primary: str
    confidence: float
    test: str
    systems: tuple[System, ...]
    contrasts: tuple[Contrast, ...] = ()
    answers: tuple[Answer, ...] = ()
    published: tuple[PublishedFigure, ...] = ()
    failures: tuple[Failure, ...] = ()
    facts: dict[str, str] = {}
    command: str = ""
    made: str = ""


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """Write ``comparison.json`` into a comparison's folder."""
    write_json(folder / COMPARISON, comparison.model_dump(mode="json"))


def read_comparison(folder: Path) -> Comparison:
    """The comparison in a folder.

    Raises:
        UserError: It is missing, torn, or of another version.
    """
    path = folder / COMPARISON
    if not path.is_file():
        raise UserError(f"{folder} has no {COMPARISON}; make it with mmrec-compare")
    try:
        return Comparison.model_validate(read_json(path))
    except ValidationError as error:
        first = ".".join(map(str, error.errors()[0]["loc"]))
        raise UserError(
            f"{path} is not what this version writes ({error.error_count()} problems, the first at "
            f"{first}); run mmrec-compare again, which keeps finished runs"
        ) from error
