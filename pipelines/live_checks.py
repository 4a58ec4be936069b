"""What an encoder that takes part, the features it starts from, and the settings must agree on."""

from collections.abc import Sequence

import numpy as np

from extract.catalog import Catalog
from extract.encoders.adaptation import Adaptation
from extract.encoders.base import Encoder
from extract.errors import UserError
from extract.finetune.two_pass import JOINT, TwoPass
from extract.manifest import Manifest
from pipelines.end_to_end_config import EndToEndOptions
from pipelines.loading import DEFAULT_MODALITIES
from pipelines.run_config import RunConfig
from pipelines.workspace import RANDOM, SHUFFLED, Dataset
from recommend.features import FeatureStore


def live_modalities(config: RunConfig, catalog: Catalog, encoder: Encoder) -> tuple[str, ...]:
    """The vectors that are made.

    Raises:
        UserError: The encoder or the catalogue has not those that are wanted.
    """
    both = set(DEFAULT_MODALITIES) <= set(catalog.modalities)
    possible = [*catalog.modalities, *([JOINT] if both and JOINT in encoder.dims else [])]
    wanted = config.modalities or [name for name in DEFAULT_MODALITIES if name in possible]
    missing = [name for name in wanted if name not in possible]
    if missing or not wanted:
        raise UserError(
            f"with {encoder.spec} in the loop this catalogue has {', '.join(possible) or 'nothing'}"
            f"; asked for {', '.join(wanted) or 'image or text'}"
        )
    needs_both = (config.end_to_end or EndToEndOptions()).itc_weight > 0
    if needs_both and not set(DEFAULT_MODALITIES) <= set(wanted):
        raise UserError(
            f"--itc-weight contrasts pictures with texts; the modalities are {', '.join(wanted)}"
        )
    return tuple(wanted)


def check_same_encoder(
    name: str, dataset: Dataset, base: Encoder, fingerprint: str, adaptation: Adaptation
) -> None:
    """Refuse to start from vectors that are not the encoder's.

    Args:
        name: The features.
        dataset: Whose.
        base: The encoder.
        fingerprint: Its own.
        adaptation: What is to be added to it.

    Raises:
        UserError: They are of another encoder, or of none.
    """
    if name == RANDOM or name.startswith(SHUFFLED):
        raise UserError(
            f"--features {name} goes with cached features only; leave it out with --encoder"
        )
    made_by = Manifest.read(dataset.require_features(name)).encoder
    if made_by.get("model") != fingerprint:
        raise UserError(
            f"the features {name!r} were made by {made_by.get('spec')}, and training is to start "
            f"from {base.spec}, another encoder; leave out --features, or give those of "
            "mmrec-extract with this encoder"
        )
    if adaptation.projection:
        raise UserError(
            f"the features {name!r} lack the projection that is to be added to the encoder; leave "
            "out --features, or the projection"
        )


def check_same_items(store: FeatureStore, passes: TwoPass, rows: np.ndarray) -> None:
    """Refuse to start from vectors of other items than those that can be encoded now.

    Args:
        store: The vectors.
        passes: What encodes.
        rows: The catalogue's row of each item, (I,).

    Raises:
        UserError: A picture or a text has come or gone since.
    """
    for name, having in passes.rows.items():
        present = rows[store.present[name]]
        made = len(present) + store.unusable[name]
        if made != len(having) or not np.isin(present, having).all():
            raise UserError(
                f"the features {store.name!r} were made when other items had a usable {name} "
                f"({made:,}, now {len(having):,}); run their mmrec-extract command again, or leave "
                "out --features"
            )


def freeze_unused(encoder: Encoder, modalities: Sequence[str], options: EndToEndOptions) -> None:
    """Train nothing of towers that are not asked.

    Raises:
        UserError: Nothing is left.
    """
    if JOINT in modalities:
        return  # which may look at everything
    towers = [stage for name in modalities for stage in encoder.stages(name)]
    used = {id(weight) for stage in towers for weight in stage.parameters}
    if options.itc_weight:
        used |= {id(scale) for scale in encoder.log_scales}
    for weight in encoder.parameters():
        weight.requires_grad_(weight.requires_grad and id(weight) in used)
    if not any(weight.requires_grad for weight in encoder.parameters()):
        raise UserError(
            f"nothing is trained that gives {' or '.join(modalities)} vectors; name other weights "
            "in end_to_end.train, or other --modalities"
        )
