"""Comparisons that are written by hand."""

from pipelines.comparisons.contents import Comparison, Contrast, Estimate, System
from pipelines.comparisons.measuring.unseen import Chances

KINDS = {"offline": "modality-specific", "clip": "large multimodal", "ft": "modality-specific"}
NO_CHANCE = Chances(whole=0.02, unseen=None, share=0.0)


def system(name, seeds=(0.3,), scores_unseen=None, slices=()):
    model, features, *regime = name.split(" · ")
    control = {"random": "random", "shuffled:offline": "shuffled"}.get(features)
    estimate = Estimate(mean=sum(seeds) / len(seeds), low=0.2, high=0.4, seeds=seeds)
    return System(
        name=name,
        model=model,
        features=features,
        regime=regime[0] if regime else "frozen",
        control=control,
        scores_unseen=scores_unseen,
        runs=tuple(f"r{n}" for n in range(len(seeds))),
        seeds=tuple(range(len(seeds))),
        epochs=(3,) * len(seeds),
        seconds=(1.0,) * len(seeds),
        test={"recall@20": estimate},
        slices=slices,
    )


def contrast(question, ours, theirs, difference, corrected=0.5, half=0.006, **others):
    return Contrast(
        question=question,
        ours=ours,
        theirs=theirs,
        metric=others.pop("metric", "recall@20"),
        difference=difference,
        low=difference - half,
        high=difference + half,
        p=corrected / 2,
        p_corrected=corrected,
        effect=0.1,
        **{"better": 0.3, "worse": 0.2, **others},
    )


def of_the_contrasts(contrasts):
    """Systems whose one seed has the differences that the contrasts say."""
    means = {}
    for one in contrasts:
        theirs = means.get(one.ours, 0.3 + one.difference) - one.difference
        means.setdefault(one.theirs, theirs)
        means.setdefault(one.ours, means[one.theirs] + one.difference)
    return {name: system(name, (mean,)) for name, mean in means.items()}


def compared(contrasts, systems=(), split="random"):
    """A comparison of the systems given, and of those that contrasts name."""
    known = of_the_contrasts(contrasts) | {own.name: own for own in systems}
    return Comparison(
        name="c",
        dataset="d",
        split=split,
        protocol="strict",
        users=100,
        primary="recall@20",
        confidence=0.95,
        test="randomisation",
        systems=tuple(known.values()),
        contrasts=tuple(contrasts),
    )
