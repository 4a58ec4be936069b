/* The two loops that torch leaves slow on a CPU. recommend/native.py builds them; recommend/sparse.py
   and recommend/ranking.py call them and have a torch path beside each, and tests hold the two equal.

   Arrays are dense and in C order, sparse matrices are CSR; the callers check sizes and ranges. */

#include <math.h>
#include <stdint.h>

/* Columns whose sums are kept in registers, and scores that are compared at once with the lowest of
   the best before any is looked at alone. */
#define WIDTH 64
/* Entries ahead whose rows are fetched into the cache, as no processor could guess them. */
#define AHEAD 8

/* Compilers keep named vectors in registers, but not the elements of an array. */
typedef float lanes __attribute__((vector_size(64), aligned(4)));

/* One row of the product below, `width` columns from `left` on; width is WIDTH or less. */
static void sum_row(int64_t from, int64_t to, int64_t d, int64_t left, int64_t width,
                    const int32_t *indices, const float *values, const uint8_t *active,
                    const float *dense, const float *start, float scale, float *out) {
    float sums[WIDTH];
    for (int64_t j = 0; j < width; j++) sums[j] = start ? start[left + j] : 0.0f;
    for (int64_t e = from; e < to; e++) {
        if (active && !active[indices[e]]) continue;
        const float *row = dense + (int64_t)indices[e] * d + left;
        for (int64_t j = 0; j < width; j++) sums[j] += values[e] * row[j];
    }
    for (int64_t j = 0; j < width; j++) out[left + j] = scale * sums[j];
}

/* The same for WIDTH columns. */
static void sum_wide_row(int64_t from, int64_t to, int64_t d, int64_t left,
                         const int32_t *indices, const float *values, const uint8_t *active,
                         const float *dense, const float *start, float scale, float *out) {
    lanes a = {0}, b = {0}, c = {0}, f = {0};
    if (start) {
        const lanes *own = (const lanes *)(start + left);
        a = own[0], b = own[1], c = own[2], f = own[3];
    }
    for (int64_t e = from; e < to; e++) {
        if (e + AHEAD < to && (!active || active[indices[e + AHEAD]])) {
            const float *later = dense + (int64_t)indices[e + AHEAD] * d + left;
            for (int64_t j = 0; j < WIDTH; j += 16) __builtin_prefetch(later + j);
        }
        if (active && !active[indices[e]]) continue;
        const lanes *row = (const lanes *)(dense + (int64_t)indices[e] * d + left);
        const float value = values[e];
        a += value * row[0], b += value * row[1], c += value * row[2], f += value * row[3];
    }
    lanes *sums = (lanes *)(out + left);
    sums[0] = scale * a, sums[1] = scale * b, sums[2] = scale * c, sums[3] = scale * f;
}

/* out[i] = scale * (start[r] + sum of values * dense[column] over row r of A), r = rows[i].

   rows    (n,) rows of A, or NULL for its first n
   active  which rows of `dense` are not zero, or NULL for all: the others are not even read
   dense   (columns of A, d); start (rows of A, d), or NULL for zero; out (n, d) */
void sparse_times_dense(int64_t n, int64_t d, const int64_t *rows, const int32_t *indptr,
                        const int32_t *indices, const float *values, const uint8_t *active,
                        const float *dense, const float *start, float scale, float *out,
                        int threads) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 64)
    for (int64_t i = 0; i < n; i++) {
        const int64_t r = rows ? rows[i] : i, from = indptr[r], to = indptr[r + 1];
        const float *begin = start ? start + r * d : 0;
        int64_t left = 0;
        for (; left + WIDTH <= d; left += WIDTH)
            sum_wide_row(from, to, d, left, indices, values, active, dense, begin, scale,
                         out + i * d);
        if (left < d)
            sum_row(from, to, d, left, d - left, indices, values, active, dense, begin, scale,
                    out + i * d);
    }
}

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
