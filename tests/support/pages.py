"""Pages made by hand, small or large, without a workspace."""

import numpy as np
from support.page_items import catalogue, space, users

from pipelines.comparisons.contents import (
    Answer,
    Comparison,
    Contrast,
    Estimate,
    Failure,
    PublishedFigure,
    SliceEstimate,
    System,
)
from pipelines.pages.contents import Curve, Disagreement, Page

METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20", "map@20")
MODELS = ("freedom", "vbpr", "bm3")
FEATURES = (("offline", None), ("shuffled:offline", "shuffled"), ("random", "random"))
SLICES = {
    "item popularity": ("rarest fifth", "second", "third", "fourth", "most popular fifth"),
    "user activity": ("least active third", "middle", "most active third"),
    "item has": ("picture and text", "no picture", "no text"),
}


def estimate(mean, spread=0.01, seeds=3):
    points = [mean + (seed - (seeds - 1) / 2) * spread / 4 for seed in range(seeds)]
    return Estimate(mean=mean, low=mean - spread, high=mean + spread, seeds=points)


def system(name, model, features, mean, control=None, **others):
    """A system of three seeds whose metrics all follow from one number."""
    tests = {metric: estimate(mean * (0.6 + 0.1 * i)) for i, metric in enumerate(METRICS)}
    tests["recall@20"] = estimate(mean)
    slices = [
        SliceEstimate(
            kind=kind,
            name=part,
            members=10 + i,
            pairs=20 + i,
            recall=estimate(mean * (0.4 + 0.25 * i)),
        )
        for kind, parts in SLICES.items()
        for i, part in enumerate(parts)
    ]
    given = {
        "regime": "frozen",
        "runs": [f"{model}-{features}-s{s}" for s in range(3)],
        "seeds": (0, 1, 2),
        "epochs": (40, 44, 38),
        "seconds": (48.0, 51.0, 733.0),
        "slices": slices,
        "test": tests,
        "beyond": {
            "coverage@20": mean,
            "gini@20": 0.81,
            "novelty@20": 3.217,
            "popularity@20": 161.44,
            "diversity@20": None,
        },
    }
    return System(name=name, model=model, features=features, control=control, **(given | others))


def systems():
    """Three models by three feature sets, and one that sees interactions only; best first."""
    made = [
        system(
            f"{model} · {features}",
            model,
            features,
            0.38 - 0.011 * m - 0.006 * f,
            control,
            settings={"model.reg": "0.01"} if f == 0 else {},
            scores_unseen=m < 2,
        )
        for m, model in enumerate(MODELS)
        for f, (features, control) in enumerate(FEATURES)
    ]
    made.append(system("lightgcn", "lightgcn", "none", 0.352, scores_unseen=False))
    return tuple(sorted(made, key=lambda each: -each.test["recall@20"].mean))


def contrasts():
    def one(question, ours, theirs, difference, p):
        return Contrast(
            question=question,
            ours=ours,
            theirs=theirs,
            metric="recall@20",
            difference=difference,
            low=difference - 0.007,
            high=difference + 0.007,
            p=p / 3,
            p_corrected=p,
            effect=difference * 12,
            better=0.31,
            worse=0.22,
        )

    return (
        one("content", "freedom · offline", "freedom · shuffled:offline", 0.0161, 0.0002),
        one("content", "vbpr · offline", "vbpr · shuffled:offline", 0.002, 0.61),
        one("model", "freedom · offline", "lightgcn", 0.028, 0.0002),
        one("model", "bm3 · offline", "lightgcn", -0.0121, 0.031),
    )


def comparison(**changes):
    given = {
        "name": "compare",
        "dataset": "films",
        "split": "random",
        "protocol": "strict",
        "users": 938,
        "primary": "recall@20",
        "confidence": 0.95,
        "test": "randomisation",
        "systems": systems(),
        "contrasts": contrasts(),
        "answers": (
            Answer(
                question="Is it content, or would any vectors do?",
                sentence="For freedom it is content: recall@20 is .0161 [.0091, .0231] above its "
                "shuffled control (corrected p < .001); for vbpr no difference can be told.",
            ),
            Answer(
                question="Do multimodal recommenders beat those that see interactions only?",
                sentence="Of two models one does: freedom stands .0280 [.0210, .0350] above "
                "lightgcn, bm3 .0121 [.0051, .0191] below it.",
            ),
        ),
        "published": (
            PublishedFigure(
                system="freedom · offline",
                metric="recall@20",
                published=0.0717,
                ours=0.0709,
                source="Zhou and Shen 2023, table 2",
            ),
        ),
        "failures": (
            Failure(
                cell="bm3 · offline · s4",
                error="loss is not finite in epoch 3; lower train.learning_rate, now 1e+06",
            ),
        ),
        "facts": {"mmrec": "0.1.0", "machine": "2 cores, Linux", "features offline": "9f3b0c" * 8},
        "command": "mmrec-compare --dataset films --models freedom,vbpr,bm3,lightgcn --seeds 0,1,2",
        "made": "2026-11-23T04:14:00",
    }
    return Comparison(**(given | changes))


def curves(all_systems):
    made = []
    for each in all_systems:
        for order, seed in enumerate(each.seeds):
            epochs = tuple(range(1, 61))
            best = each.epochs[order]
            rise = [
                each.test["recall@20"].mean * (1 - np.exp(-e / 12)) - max(0, e - best) * 2e-4
                for e in epochs
            ]
            made.append(
                Curve(
                    system=each.name,
                    seed=seed,
                    metric="recall@20",
                    epochs=epochs,
                    loss=[0.7 * float(np.exp(-e / 20)) + 0.1 + 0.01 * order for e in epochs],
                    validation=[
                        float(v) if e % 2 == 0 else None for e, v in zip(epochs, rise, strict=True)
                    ],
                    best_epoch=best,
                )
            )
    return tuple(made)


def page(n_items=120, n_users=12, **changes):
    """A page that has everything."""
    told = comparison()
    spaces = (
        space("offline · image", "image", n_items, 0),
        space("offline · text", "text", n_items, 1),
        space("offline · fused", "fused", n_items, 2),
        space("item graph · lightgcn", "graph", n_items, 3),
    )
    overlap = tuple(None if row % 7 == 6 else (row * 7 % 11) / 10 for row in range(n_items))
    given = {
        "comparison": told,
        "curves": curves(told.systems),
        "items": catalogue(n_items),
        "catalogue": n_items,
        "spaces": spaces,
        "users": users(n_users, n_items, [each.name for each in told.systems]),
        "disagreements": (
            Disagreement(one="offline · image", other="offline · text", overlap=overlap),
        ),
        "licence": "Made by the tests; nobody's.",
    }
    return Page(**(given | changes))
