"""Published figures on the splits of the MMRec toolbox, and which of them may stand beside ours.

Theirs are one seed each, with settings picked on test, by the protocol ``mmrec``. LATTICE, FREEDOM,
BM3 and MGCN train a copy of the features there, which is our regime ``tuned``.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pipelines.comparisons.contents import PublishedFigure, System

PROTOCOL = "mmrec"
METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")
# Splits that are the published one, or drawn as it was; the kind of source, then the setting.
OWN_SPLIT, SAME_DRAW = "inter", "mmrec"
TOOLBOX = "MMRec toolbox, evaluation/README.md"
MGCN_PAPER = "MGCN paper, table of results"
MENTOR_PAPER = "MENTOR paper, table of results"


class Sizes(NamedTuple):
    """Users, items and interactions of a published data set."""

    users: int
    items: int
    interactions: int


class Figures(NamedTuple):
    """Test figures of one model on one data set, in the order of `METRICS`, and their source."""

    recall_10: float
    recall_20: float
    ndcg_10: float
    ndcg_20: float
    source: str


SIZES = {
    "baby": Sizes(19_445, 7_050, 160_792),
    "sports": Sizes(35_598, 18_357, 296_337),
    "clothing": Sizes(39_387, 23_033, 278_677),
}
# fmt: off
PUBLISHED: Mapping[str, Mapping[str, Figures]] = {
    "baby": {
        "bpr": Figures(.0357, .0575, .0192, .0249, TOOLBOX),
        "lightgcn": Figures(.0479, .0754, .0257, .0328, TOOLBOX),
        "layergcn": Figures(.0529, .0820, .0281, .0355, MENTOR_PAPER),
        "vbpr": Figures(.0423, .0663, .0223, .0284, TOOLBOX),
        "mmgcn": Figures(.0378, .0615, .0200, .0261, TOOLBOX),
        "grcn": Figures(.0539, .0833, .0288, .0363, TOOLBOX),
        "dualgnn": Figures(.0448, .0716, .0240, .0309, TOOLBOX),
        "slmrec": Figures(.0529, .0775, .0290, .0353, TOOLBOX),
        "lattice": Figures(.0547, .0850, .0292, .0370, TOOLBOX),
        "bm3": Figures(.0564, .0883, .0301, .0383, TOOLBOX),
        "freedom": Figures(.0627, .0992, .0330, .0424, TOOLBOX),
        "mgcn": Figures(.0620, .0964, .0339, .0427, MGCN_PAPER),
    },
    "sports": {
        "bpr": Figures(.0432, .0653, .0241, .0298, TOOLBOX),
        "lightgcn": Figures(.0569, .0864, .0311, .0387, TOOLBOX),
        "layergcn": Figures(.0594, .0916, .0323, .0406, MENTOR_PAPER),
        "vbpr": Figures(.0558, .0856, .0307, .0384, TOOLBOX),
        "mmgcn": Figures(.0370, .0605, .0193, .0254, TOOLBOX),
        "grcn": Figures(.0598, .0915, .0332, .0414, TOOLBOX),
        "dualgnn": Figures(.0568, .0859, .0310, .0385, TOOLBOX),
        "slmrec": Figures(.0663, .0990, .0365, .0450, TOOLBOX),
        "lattice": Figures(.0620, .0953, .0335, .0421, TOOLBOX),
        "bm3": Figures(.0656, .0980, .0355, .0438, TOOLBOX),
        "freedom": Figures(.0717, .1089, .0385, .0481, TOOLBOX),
        "mgcn": Figures(.0729, .1106, .0397, .0496, MGCN_PAPER),
    },
    "clothing": {
        "bpr": Figures(.0187, .0279, .0103, .0126, MENTOR_PAPER),
        "lightgcn": Figures(.0340, .0526, .0188, .0236, MENTOR_PAPER),
        "layergcn": Figures(.0371, .0566, .0200, .0247, MENTOR_PAPER),
        "vbpr": Figures(.0281, .0415, .0158, .0192, MENTOR_PAPER),
        "mmgcn": Figures(.0218, .0345, .0110, .0142, MENTOR_PAPER),
        "grcn": Figures(.0424, .0650, .0225, .0283, MGCN_PAPER),
        "dualgnn": Figures(.0454, .0683, .0241, .0299, MENTOR_PAPER),
        "slmrec": Figures(.0452, .0675, .0247, .0303, MENTOR_PAPER),
        "lattice": Figures(.0492, .0733, .0268, .0330, MENTOR_PAPER),
        "bm3": Figures(.0422, .0621, .0231, .0281, MENTOR_PAPER),
        "freedom": Figures(.0629, .0941, .0341, .0420, MENTOR_PAPER),
        "mgcn": Figures(.0641, .0945, .0347, .0428, MGCN_PAPER),
    },
}
# fmt: on


def published_name(description: Mapping[str, Any]) -> str | None:
    """Which published data set this is, by its sizes; None for none.

    Args:
        description: The content of dataset.json.
    """
    counts = description.get("counts", {})
    own = tuple(counts.get(key) for key in Sizes._fields)
    return next((name for name, sizes in SIZES.items() if own == sizes), None)


def published_beside(
    systems: Sequence[System], description: Mapping[str, Any], split: str, protocol: str
) -> tuple[list[PublishedFigure], str]:
    """Published figures beside ours, and in one sentence why they may or may not stand there.

    Args:
        systems: What was compared.
        description: The content of dataset.json.
        split: How the log was split.
        protocol: Of the runs.
    """
    name = published_name(description)
    if name is None:
        return [], "none known for a data set of these sizes"
    given = description.get("source", {}).get("kind") == OWN_SPLIT
    if not given and split != SAME_DRAW:
        return [], f"none for {name} split {split}: the published ones are of the split {SAME_DRAW}"
    if protocol != PROTOCOL:
        return [], f"none for {name} by the protocol {protocol}: theirs is {PROTOCOL}"
    draw = "the split that came with the log" if given else "another draw of the same split"
    figures = [figure for own in systems for figure in _of_system(own, PUBLISHED[name], draw)]
    return figures, f"of {name}, one seed each with settings picked on test; ours are {draw}"


def _of_system(
    system: System, published: Mapping[str, Figures], draw: str
) -> Iterator[PublishedFigure]:
    figures = published.get(system.model)
    if figures is None or system.control or system.regime not in ("frozen", "tuned"):
        return
    for metric, value in zip(METRICS, figures[:-1], strict=True):
        ours = system.test[metric].mean
        if ours is not None:
            seen = "" if system.features == "none" else f"; features {system.features}"
            yield PublishedFigure(
                system=system.name,
                metric=metric,
                published=value,
                ours=ours,
                source=figures.source,
                note=draw + seen,
            )
