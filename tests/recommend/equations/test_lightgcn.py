"""LightGCN against a plain dense float64 transcription of its equations, on 5 × 6."""

from support.equations import (
    built,
    check,
    check_embeddings,
    chosen,
    loss_of,
    naive_bpr,
    naive_l2,
    naive_lightgcn,
)


def test_lightgcn(small):
    model, w = built("lightgcn", small, reg=0.3, layers=3)
    matrix = small.train.matrix.toarray()
    users, items = naive_lightgcn(matrix, w["users"], w["items"], 3)
    check_embeddings(model, small, users, items)
    wanted = {
        "bpr": naive_bpr(users, items),
        "l2": 0.3 * naive_l2(*chosen(w["users"], w["items"])),
    }
    check(loss_of(model, small), wanted)
