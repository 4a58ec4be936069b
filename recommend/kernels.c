/* The loop that torch leaves slow on a CPU; recommend/native.py builds it, recommend/ranking.py calls
   it and has a torch path beside it, and tests hold the two equal. */

#include <math.h>
#include <stdint.h>

/* Scores that are compared at once with the lowest of the best, before any is looked at alone. */
#define WIDTH 64

/* Whether place a of a heap ranks below place b: a smaller score, or an equal one further right. */
static int below(const float *scores, const int64_t *items, int64_t a, int64_t b) {
    return scores[a] < scores[b] || (scores[a] == scores[b] && items[a] > items[b]);
}

static void swap(float *scores, int64_t *items, int64_t a, int64_t b) {
    const float score = scores[a];
    const int64_t item = items[a];
    scores[a] = scores[b], items[a] = items[b];
    scores[b] = score, items[b] = item;
}

/* Move the root of a heap of n down to its place; the lowest stands on top. */
static void sink(float *scores, int64_t *items, int64_t n, int64_t at) {
    for (int64_t child = 2 * at + 1; child < n; at = child, child = 2 * at + 1) {
        if (child + 1 < n && below(scores, items, child + 1, child)) child++;
        if (!below(scores, items, child, at)) return;
        swap(scores, items, child, at);
    }
}

/* Merge a tile of scores into the k best of each row so far.

   scores  (n, width) of the items first .. first + width - 1; masked places become -inf
   rows    (n,) rows of the mask, a CSR matrix with sorted columns
   best    (n, k) scores and items: heaps of which min(k, first) places are filled

   Tiles must come with rising `first`. A later item never displaces one of equal score, so only
   what is greater than the lowest is looked at. Returns 1 if a score is NaN or +inf, else 0. */
int merge_best(int64_t n, int64_t width, int64_t first, int64_t k, float *scores,
               const int64_t *rows, const int32_t *indptr, const int32_t *indices,
               float *best_scores, int64_t *best_items, int threads) {
    int bad = 0;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 16) reduction(| : bad)
    for (int64_t i = 0; i < n; i++) {
        float *row = scores + i * width, *heap = best_scores + i * k;
        int64_t *items = best_items + i * k;
        int64_t low = indptr[rows[i]], high = indptr[rows[i] + 1];
        for (int64_t end = high; low < end;) {
            const int64_t middle = (low + end) / 2;
            if (indices[middle] < first) low = middle + 1; else end = middle;
        }
        for (; low < high && indices[low] < first + width; low++)
            row[indices[low] - first] = -INFINITY;

        int64_t j = 0, filled = first < k ? first : k;
        for (; filled < k && j < width; j++, filled++) {
            heap[filled] = row[j], items[filled] = first + j;
            bad |= !(row[j] < INFINITY);
            if (filled == k - 1)
                for (int64_t at = k / 2; at-- > 0;) sink(heap, items, k, at);
        }
        while (j < width) {
            const int64_t end = j + WIDTH < width ? j + WIDTH : width;
            const float lowest = heap[0];
            int wrong = 0, better = 0;
            for (int64_t c = j; c < end; c++) {
                wrong |= !(row[c] < INFINITY);
                better |= row[c] > lowest;
            }
            bad |= wrong;
            if (better)
                for (int64_t c = j; c < end; c++)
                    if (row[c] > heap[0]) {
                        heap[0] = row[c], items[0] = first + c;
                        sink(heap, items, k, 0);
                    }
            j = end;
        }
    }
    return bad;
}

/* Sort each heap: falling scores, equal ones by rising item. */
void sort_best(int64_t n, int64_t k, float *scores, int64_t *items, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < n; i++)
        for (int64_t left = k - 1; left > 0; left--) {
            swap(scores + i * k, items + i * k, 0, left);
            sink(scores + i * k, items + i * k, left, 0);
        }
}
