"""Finished runs of a small data set whose scores a test says, written by the real writers."""

import numpy as np
import torch
from support.shop import write_features, write_shop

from pipelines.loading import load_log, log_digests
from pipelines.run_config import resolve_run
from pipelines.runs import RunFolder
from pipelines.workspace import Workspace
from recommend.evaluate import evaluate, seen_items
from recommend.models import Embeddings, model_class

N_USERS, N_ITEMS = 60, 40


def log_rows(seed=0, n_users=N_USERS, n_items=N_ITEMS, cold=0):
    """Each user took twelve items, one for validation and two for test; the last `cold` items are
    held out wherever they were taken, in turn for validation and test."""
    generator = np.random.default_rng(seed)
    rows = []
    for user in range(n_users):
        # Lower rows are taken more often.
        weights = 1 / np.arange(1, n_items + 1)
        chosen = generator.choice(n_items, 12, replace=False, p=weights / weights.sum())
        splits = ["train"] * 9 + ["validation", "test", "test"]
        for item, split in zip(chosen.tolist(), splits, strict=True):
            if item >= n_items - cold:
                split = ("validation", "test")[item % 2]
            rows.append((f"u{user}", f"i{item}", split))
    return rows


def market(root, rows=None, features=("good",), name="shop"):
    """A workspace with one data set and its feature sets."""
    rows = rows or log_rows()
    items = [f"i{item}" for item in range(N_ITEMS)]
    folder = write_shop(root, name, rows, items)
    for own in features:
        write_features(folder, own, items)
    return Workspace(root)


def put_run(
    workspace,
    scores,
    model="bpr",
    features=None,
    seed=0,
    dataset="shop",
    name=None,
    epoch=3,
    features_digest="f",
    **settings,
):
    """A finished run whose lists are those of a (U, I) matrix of scores; gives its folder."""
    log = load_log(workspace.dataset(dataset))
    own = {"name": model, **settings.pop("model_settings", {})}
    features = features or ("good" if model_class(model).uses_features else "none")
    given = {"dataset": dataset, "features": features, "seed": seed, "model": own, **settings}
    config = resolve_run(given)
    name = name or config.default_run_name(features)
    config = config.model_copy(update={"run": name})
    users = torch.from_numpy(np.asarray(scores, np.float32))
    embeddings = Embeddings(users, torch.eye(users.shape[1]))
    seen = seen_items(log.split, "test", config.protocol)
    test, ranking = evaluate(embeddings, log.split.test, seen)
    validation, _ = evaluate(embeddings, log.split.validation, log.split.train.matrix)
    folder = RunFolder.begin(workspace.new_run(dataset, name), config)
    by_split = {"validation": validation, "test": test}
    folder.write_results({}, embeddings, log, by_split, ranking)
    folder.finish(
        {
            "dataset": dataset,
            "features": features,
            "model": model,
            "seed": seed,
            "protocol": config.protocol,
            "selection": {"metric": "recall@20", "epoch": epoch, "value": 0.5},
            "validation": validation.means(),
            "test": test.means(),
            "users": len(test.users),
            "feature_source": config.feature_source,
            "modalities": {},
            "seconds": 1.5,
            "digests": {**log_digests(log), "features": features_digest, "code": "mmrec 0.1.0"},
        }
    )
    return folder.folder


def noise(seed=0, n_users=N_USERS, n_items=N_ITEMS):
    """Scores that know nothing."""
    return np.random.default_rng(seed).standard_normal((n_users, n_items))


def knowing(workspace, share, seed=0, dataset="shop"):
    """Scores by which about a share of the users find their test items first."""
    log = load_log(workspace.dataset(dataset))
    scores = noise(seed, len(log.users), len(log.items))
    test = log.split.test
    lucky = np.random.default_rng([seed, 1]).random(len(log.users)) < share
    chosen = lucky[test.users]
    scores[test.users[chosen], test.items[chosen]] += 100
    return scores
