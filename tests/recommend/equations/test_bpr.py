"""BPR against a plain dense float64 transcription of its equations, on 5 × 6."""

from support.equations import built, check, check_embeddings, chosen, loss_of, naive_bpr, naive_l2


def test_bpr(small):
    model, w = built("bpr", small, reg=0.3)
    check_embeddings(model, small, w["users"], w["items"])
    wanted = {
        "bpr": naive_bpr(w["users"], w["items"]),
        "l2": 0.3 * naive_l2(*chosen(w["users"], w["items"])),
    }
    check(loss_of(model, small), wanted)
