"""All that one page shows, from a comparison and the workspace that it was made in."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from pipelines.comparisons.contents import Comparison
from pipelines.pages.contents import Page, Space
from pipelines.pages.curves import curves
from pipelines.pages.disagreements import disagreements
from pipelines.pages.items import describe_items, shown_items
from pipelines.pages.maps import maps, require_reducer
from pipelines.pages.material import Material, open_material
from pipelines.pages.spaces import (
    TAKEN_TOGETHER,
    feature_names,
    feature_spaces,
    feature_stores,
    made_again,
    model_space,
    taken_together,
)
from pipelines.pages.users import Chosen, choose_users, describe_users, page_users, that_fit
from pipelines.progress import Reporter
from pipelines.workspace import Dataset, Workspace, read_json
from recommend.evaluate import Protocol
from recommend.features import FeatureStore

# Of the features of the best systems first.
MOST_MAPS = 6


@dataclass(frozen=True)
class PageOptions:
    """What a page shows beside the comparison.

    Attributes:
        items: At most so many items of the catalogue.
        users: At most so many test users.
        thumbnails: Whether items have pictures.
        anonymous: Whether numbers stand for users' ids.
        seed: Of the choice of users, and of the maps.
    """

    items: int = 10_000
    users: int = 200
    thumbnails: bool = True
    anonymous: bool = False
    seed: int = 0


def gather(
    workspace: Workspace,
    comparison: Comparison,
    options: PageOptions | None = None,
    reporter: Reporter | None = None,
) -> Page:
    """The page of a comparison; the same files and options give the same page.

    All that is shown of a user is among the items shown; users for whom there is no room are left
    out. Neighbours are sought among the items shown. Of a comparison in which all cells failed only
    that is shown. Nothing is written.

    Args:
        workspace: Where data set and runs lie.
        comparison: The numbers.
        options: How much to show; None for the usual.
        reporter: Where to tell progress and what is left out; None for nowhere.

    Raises:
        UserError: The data set is gone or has changed, no run is left, or scikit-learn is not
            installed.
    """
    options, reporter = options or PageOptions(), reporter or Reporter(quiet=True)
    if not comparison.systems:
        dataset = workspace.dataset(comparison.dataset)
        return Page(comparison=comparison, licence=licence(dataset))
    require_reducer()
    material = open_material(workspace, comparison, reporter)
    users, needed = _users(material, comparison, options, reporter)
    taken = material.log.split.train.item_degrees
    shown = shown_items(taken, needed, options.items)
    place = np.full(len(taken), -1)
    place[shown] = np.arange(len(shown))
    if len(shown) < len(taken):
        reporter.say(f"{len(shown):,} of {len(taken):,} items are shown")
    stores = _stores(material, comparison, reporter)
    spaces = _spaces(material, comparison, stores, shown, options, reporter)
    return Page(
        comparison=comparison,
        curves=curves(material),
        items=describe_items(material, shown, options.thumbnails, reporter),
        catalogue=len(taken),
        spaces=spaces,
        made_again=made_again(stores, material),
        disagreements=disagreements(spaces, TAKEN_TOGETHER),
        users=page_users(users, place, options.anonymous),
        licence=licence(material.dataset),
    )


def licence(dataset: Dataset) -> str:
    """What a data set says of its licence; empty where it says nothing."""
    described = read_json(dataset.description)
    source = described.get("source") if isinstance(described, dict) else None
    origin = source.get("origin") if isinstance(source, dict) else None
    if not isinstance(origin, dict) or not origin.get("licence"):
        return ""
    named = ", ".join(str(origin[key]) for key in ("title", "home") if origin.get(key))
    return f"{named}: {origin['licence']}" if named else str(origin["licence"])


def _users(
    material: Material, comparison: Comparison, options: PageOptions, reporter: Reporter
) -> tuple[list[Chosen], set[int]]:
    rows = choose_users(material.log, options.users, options.seed)
    protocol = cast(Protocol, comparison.protocol)
    drawn = describe_users(material, rows, protocol, reporter)
    kept, needed = that_fit(drawn, options.items)
    if len(kept) < len(drawn):
        reporter.say(
            f"{len(drawn) - len(kept)} of {len(drawn)} users are left out, whose items do not fit "
            f"into {options.items:,}; show more with --items"
        )
    return kept, needed


def _stores(
    material: Material, comparison: Comparison, reporter: Reporter
) -> Sequence[FeatureStore]:
    stores = feature_stores(material, feature_names(comparison), reporter)
    for name in made_again(stores, material):
        reporter.say(
            f"warning: the features {name} were extracted again after runs had read them; maps and "
            "neighbours are of the new ones"
        )
    return stores


def _spaces(
    material: Material,
    comparison: Comparison,
    stores: Sequence[FeatureStore],
    shown: np.ndarray,
    options: PageOptions,
    reporter: Reporter,
) -> tuple[Space, ...]:
    """Those of the features, with maps of the first ones, and those of a model and of the log."""
    found: list[tuple[Space, np.ndarray]] = []
    with reporter.bar("neighbours", len(stores), unit="feature sets") as advance:
        for store in stores:
            found += feature_spaces(store, shown)
            advance()
    of_model = model_space(comparison, material, shown)
    together = taken_together(material.log.split.train, shown, reporter)
    graphs = [of_model, together] if of_model else [together]
    return (*_with_maps(found, options.seed, reporter), *graphs)


def _with_maps(
    spaces: Sequence[tuple[Space, np.ndarray]], seed: int, reporter: Reporter
) -> list[Space]:
    drawn = maps([vectors for _, vectors in spaces[:MOST_MAPS]], seed, reporter)
    mapped = [
        space.model_copy(update={"xy": xy})
        for (space, _), xy in zip(spaces[:MOST_MAPS], drawn, strict=True)
    ]
    return [*mapped, *(space for space, _ in spaces[MOST_MAPS:])]
