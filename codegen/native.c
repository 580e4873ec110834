/* Attention over sparse panels of keys: the kernel of the backend `native`.

   A row is up to ROW queries, of one head or of all heads that share keys. It takes any list of panels of LANES keys:
   a panel is full, or has a mask: for each query of the row a word of LANES bits. So relations of positions, inputs of
   a call, selections of routes and lists are all the same here: `runtime/backends/native` makes rows, runs and words.

     panel      LANES keys that lie side by side in the order of computation; the last of a block may have fewer
     run        panels side by side of one row, all full or each with its mask
     unit       one key head of one batch entry
     segment    queries side by side, of all heads of a unit, each of which may be in several rows
     members    the queries of a row of a segment, in any order: `head * count + number`, both counted in the segment
     words      32-bit words of a vector: a float, or a pair of bfloat16 where the processor multiplies pairs
     part       some panels of a row, whose sums are added to those of its other parts: threads share long rows
     steps      words of the dims of a head
     m, l       per query, the maximum of the scores in base two and the sum of exp2(s - m)

   A region between `hole: NAME` and `end` is the code for products with a soft cap and biases, which the library of
   most patterns has. For all others `emit/native_scores.py` fills it: each has a library of its own.

   Rules: a pair that does not attend has the score -inf and is never read otherwise; a query without keys, or with
   scores of -inf alone, has the output 0 and the log-sum-exp -inf. Results that are not finite are reported to the
   caller, who computes them again where single values are told apart. Each result is summed in one order. */

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif
#if defined(__AVX512BF16__) && defined(__AVX512F__)
#define HAS_PAIRS 1
#else
#define HAS_PAIRS 0
#endif

#define LANES 16
#define ROW 64
#define CHUNK 8 /* panels whose scores are held at once */
#define WIDTH (CHUNK * LANES)
#define AHEAD 2 /* panels that are asked for before they are read */
#define PART 64 /* panels of a part of a row of few queries, at least */
#define MOST_PARTS 256 /* of all rows of a group: whether rows have parts depends on the call, not on its threads */
#define FEW 8 /* up to so many queries take keys where they lie: transposing them would cost more */
#define MOST_THREADS 256
#ifndef LEAST_WORK /* tests of small calls have less */
#define LEAST_WORK 4000000 /* products of a thread: about a tenth of a millisecond */
#endif
#define LARGEST 1024 /* a log-sum-exp beyond it has an error of more than 2 ** -14 */
#define PACKED (16l << 20) /* bytes of packed keys and values that are held at once, about */
#define SPARE (32l << 20)  /* bytes that are kept for the next call, at most */

#if defined(__AVX512F__)
#define TALL 6 /* queries of a tile of registers */
#define WIDE 4 /* its vectors, side by side */
#else
#define TALL 6
#define WIDE 1
#endif

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

typedef float vec __attribute__((vector_size(64)));
typedef float loose_vec __attribute__((vector_size(64), aligned(4)));
typedef int32_t ints __attribute__((vector_size(64)));
typedef int32_t loose_ints __attribute__((vector_size(64), aligned(2)));
typedef uint16_t halves __attribute__((vector_size(32)));
typedef uint16_t loose_halves __attribute__((vector_size(32), aligned(2)));
typedef uint8_t loose_bytes __attribute__((vector_size(16), aligned(1)));

enum type { FLOAT32, BFLOAT16, FLOAT16, E4M3, E5M2 }; /* those of 8 bits of keys and values alone */
/* hole: terms */
enum { PAIR_TERMS = 1, DERIVATIVES = 1 }; /* numbers of a pair beside its product, and derivatives of its score */
#define ABSENT -INFINITY /* the score of pairs that do not attend */
/* end */

/* Strides are in elements: of batch entries (or pages), heads and tokens. Dims lie side by side. */
typedef struct {
    char *data;
    int64_t batch, head, token, type;
} tensor;

typedef struct {
    int32_t panel, panels;
    int32_t mask; /* that of the first panel, then the next ones; -1 if all are full, -2 - n if all have the mask n */
    int32_t bias; /* likewise its biases; -1 if there are none */
} run;

typedef struct {
    int32_t first, count; /* queries, in the order of computation; in a segment members */
    int32_t run, runs;
    int32_t word;         /* of its masks, that of the first query */
} row;

typedef struct {
    int32_t first, count; /* queries, in the order of computation */
    int32_t row, rows;    /* computed one after the other */
} segment;

typedef struct {
    int32_t fold; /* heads of a row: 1, or all that share keys */
    int32_t batch, heads, key_heads, queries, keys, dim, value_dim;
    int32_t key_block; /* panels do not cross blocks of so many keys */
    int32_t page;      /* keys of a page, whose number stands in `pages`; 0: keys lie as in a tensor */
    int32_t threads, packs; /* `packs`: keys are packed first, as several rows take them */
    float scale, cap; /* the soft cap of scores; 0: none */
    tensor q, k, v, out, grad_out, grad_q, grad_k, grad_v;
    float *lse;                        /* [batch, heads, queries], may be NULL going forward */
    const float *sinks, *factor;       /* [batch, heads, queries] or NULL */
    const float *grad_lse;             /* [batch, heads, queries] */
    const float *bias;                 /* [batch or 1, heads or 1, biases, height, LANES] or NULL */
    float *grad_bias;                  /* [batch, heads, biases, height, LANES] or NULL */
    const float *numbers;              /* those of a filled text */
    const float *query_terms, *key_terms; /* [batch, heads, queries, terms] and [batch, heads, terms, keys + LANES] */
    float *grad_query_terms, *grad_key_terms; /* [batch, heads, queries, terms, LANES] and as key_terms; NULL */
    int64_t bias_batch, bias_head, biases;
    int32_t height;                    /* words of a mask, and rows of a bias: queries of the largest row */
    const int32_t *query_at, *key_at;  /* declared positions [batch or 1, heads or 1, tokens], or NULL */
    int64_t query_at_batch, query_at_head, key_at_batch, key_at_head;
    const int32_t *pages;              /* [batch, pages of an entry], negative where there is none */
    int64_t pages_batch;
    const int32_t *lengths;            /* [batch]: the keys of an entry that exist; NULL: all */
    const int32_t *classes;            /* [batch, heads]: which rows a head has */
    const int64_t *class_rows;         /* where the rows of each class begin, and the last ones end */
    const row *rows;
    const run *runs;
    const uint16_t *words;             /* [masks, height] */
    const segment *segments;           /* if not NULL, `class_rows` is of these instead of rows, and `fold` all heads */
    const int32_t *members;
} call;

/* Vectors */

static const ints LANE_BITS = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768};
static const float LOG2_E = 1.4426950408889634f;

INLINE vec splat(float x) { return x - (vec){}; }
INLINE ints splat_int(int32_t x) { return x - (ints){}; }
INLINE vec choose(ints condition, vec a, vec b) { return (vec)(((ints)a & condition) | ((ints)b & ~condition)); }
INLINE vec larger(vec a, vec b) { return choose(a > b, a, b); }
INLINE vec load(const float *x) { return *(const loose_vec *)x; }
INLINE void store(float *x, vec value) { *(loose_vec *)x = value; }

/* The lanes of two vectors side by side that `of(lane, n)` numbers for each lane of the result. */
#define EACH_LANE(of, n) of(0, n), of(1, n), of(2, n), of(3, n), of(4, n), of(5, n), of(6, n), of(7, n), \
    of(8, n), of(9, n), of(10, n), of(11, n), of(12, n), of(13, n), of(14, n), of(15, n)
#ifdef __clang__
#define SHUFFLED(a, b, of, n) __builtin_shufflevector(a, b, EACH_LANE(of, n))
#else
#define SHUFFLED(a, b, of, n) __builtin_shuffle(a, b, (ints){EACH_LANE(of, n)})
#endif
#define MOVED(lane, n) (lane) + (n)
#define SHIFTED(x, n) SHUFFLED(x, x, MOVED, n)

INLINE float sum(vec x) {
    x += SHIFTED(x, 8);
    x += SHIFTED(x, 4);
    x += SHIFTED(x, 2);
    return (x + SHIFTED(x, 1))[0];
}

/* 2 ** x, to 2 units in the last place; 0 where results would be far below the smallest float. NaN stays NaN. */
INLINE vec power_of_two(vec x) {
#if defined(__AVX512F__)
    x = (vec)_mm512_max_ps((__m512)splat(-200), (__m512)x); /* of NaN it is NaN */
    vec rounded = (vec)_mm512_roundscale_ps((__m512)x, 8);
    vec f = x - rounded;
#else
    const float shift = 12582912.0f; /* 1.5 * 2 ** 23: its low bits are the rounded x */
    vec rounded = x + shift;
    vec f = x - (rounded - shift);
#endif
    vec p = splat(1.3264715e-3f);
    p = p * f + 9.671514e-3f;
    p = p * f + 5.550734e-2f;
    p = p * f + 2.4022242e-1f;
    p = p * f + 6.931470e-1f;
    p = p * f + 1.0f;
#if defined(__AVX512F__)
    return (vec)_mm512_scalef_ps((__m512)p, (__m512)rounded);
#else
    ints exponent = ((ints)rounded << 23) + (127 << 23);
    return choose(x < -126.0f, (vec){}, p * (vec)exponent);
#endif
}

/* The natural logarithm of positive floats that are not subnormal. */
INLINE vec logarithm(vec x) {
    ints exponent = ((ints)x - 0x3f3504f3) >> 23; /* x = f * 2 ** exponent, with f from sqrt(1 / 2) to sqrt(2) */
    vec f = (vec)((ints)x - (exponent << 23));
    vec s = (f - 1) / (f + 1), square = s * s;
    vec p = splat(2.0f / 9);
    p = p * square + 2.0f / 7;
    p = p * square + 2.0f / 5;
    p = p * square + 2.0f / 3;
    return __builtin_convertvector(exponent, vec) * 0.6931471806f + (p * square * s + 2 * s);
}

/* Polynomial near 0, where the quotient would lose digits. */
INLINE vec hyperbolic_tangent(vec x) {
    vec size = (vec)((ints)x & 0x7fffffff), square = x * x;
    vec p = splat(-5.70498872745e-3f);
    p = p * square + 2.06390887954e-2f;
    p = p * square - 5.37397155531e-2f;
    p = p * square + 1.33314422036e-1f;
    p = p * square - 3.33332819422e-1f;
    vec near = p * square * x + x;
    vec least = choose(size > 10.0f, splat(10.0f), size);
    vec far = 1.0f - 2.0f / (power_of_two(least * (2 * LOG2_E)) + 1.0f);
    far = (vec)((ints)far | ((ints)x & (int32_t)0x80000000));
    return choose(size < 0.625f, near, choose(x == x, far, x));
}

INLINE vec of_bfloat16(halves x) { return (vec)(__builtin_convertvector(x, ints) << 16); }

INLINE halves to_bfloat16(vec x) {
#if HAS_PAIRS
    return (halves)_mm512_cvtneps_pbh((__m512)x);
#endif
    ints bits = (ints)x;
    ints rounded = bits + 0x7fff + ((bits >> 16) & 1);
    ints is_number = x == x;
    rounded = (is_number & rounded) | (~is_number & (bits | 0x400000));
    return __builtin_convertvector(rounded >> 16 & 0xffff, halves);
}

/* By operations of 32 bits, as not all compilers have the type. Exponents move by a product, subnormal numbers too. */
INLINE vec of_float16(halves x) {
    ints bits = __builtin_convertvector(x, ints), size = (bits & 0x7fff) << 13;
    vec result = choose(size < 0x0f800000, (vec)size * 0x1p112f, (vec)(size | 0x7f800000));
    return (vec)((ints)result | (bits & 0x8000) << 16);
}

/* To the nearest, ties to even. The sum of a small number and 0.5 is rounded to the last bit of subnormal numbers. */
INLINE halves to_float16(vec x) {
    ints bits = (ints)x, size = bits & 0x7fffffff;
    ints normal = ((size + 0xfff + ((size >> 13) & 1)) >> 13) - (112 << 10);
    ints small = (ints)((vec)size + 0.5f) - 0x3f000000;
    vec result = choose(size < 0x38800000, (vec)small, (vec)normal);
    result = choose(size > 0x477fefff, (vec)splat_int(0x7c00), result);
    result = choose(size > 0x7f800000, (vec)splat_int(0x7e00), result);
    return __builtin_convertvector(((ints)result | (bits >> 16 & 0x8000)) & 0xffff, halves);
}

/* Of float8_e4m3fn, which has no infinity; of float8_e5m2, the upper half of a float16. */
INLINE vec of_8_bits(loose_bytes x, int64_t type) {
    if (type == E5M2)
        return of_float16(__builtin_convertvector(x, halves) << 8);
    ints bits = __builtin_convertvector(x, ints), size = (bits & 0x7f) << 20;
    vec result = choose(size == 0x07f00000, (vec)splat_int(0x7fc00000), (vec)size * 0x1p120f);
    return (vec)((ints)result | (bits & 0x80) << 24);
}

INLINE int64_t size_of(int64_t type) { return type == FLOAT32 ? 4 : type < E4M3 ? 2 : 1; }

/* `count` elements, as floats. */
INLINE void load_row(float *to, const void *from, int64_t count, int64_t type) {
    int64_t n = 0;
    switch (type) {
    case FLOAT32:
        memcpy(to, from, count * 4);
        break;
    case BFLOAT16:
        for (; n + LANES <= count; n += LANES)
            store(to + n, of_bfloat16(*(const loose_halves *)((const uint16_t *)from + n)));
        for (; n < count; n++) {
            uint32_t bits = (uint32_t)((const uint16_t *)from)[n] << 16;
            memcpy(to + n, &bits, 4);
        }
        break;
    case FLOAT16:
        for (; n + LANES <= count; n += LANES)
            store(to + n, of_float16(*(const loose_halves *)((const uint16_t *)from + n)));
        for (; n < count; n++)
            to[n] = of_float16((halves){((const uint16_t *)from)[n]})[0];
        break;
    default:
        for (; n + LANES <= count; n += LANES)
            store(to + n, of_8_bits(*(const loose_bytes *)((const uint8_t *)from + n), type));
        for (; n < count; n++)
            to[n] = of_8_bits((loose_bytes){((const uint8_t *)from)[n]}, type)[0];
    }
}

INLINE void store_row(void *to, const float *from, int64_t count, int64_t type) {
    int64_t n = 0;
    switch (type) {
    case FLOAT32:
        memcpy(to, from, count * 4);
        break;
    case BFLOAT16:
        for (; n + LANES <= count; n += LANES)
            *(loose_halves *)((uint16_t *)to + n) = to_bfloat16(load(from + n));
        for (; n < count; n++)
            ((uint16_t *)to)[n] = to_bfloat16(splat(from[n]))[0];
        break;
    default:
        for (; n + LANES <= count; n += LANES)
            *(loose_halves *)((uint16_t *)to + n) = to_float16(load(from + n));
        for (; n < count; n++)
            ((uint16_t *)to)[n] = to_float16(splat(from[n]))[0];
    }
}

/* The products of words: of floats, or of pairs of halves. */
INLINE vec multiplied(vec sum, vec a, vec b, int pairs) {
#if HAS_PAIRS
    if (pairs)
        return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#endif
    return sum + a * b;
}

/* Tiles of registers: s[tall, wide vectors] = q @ panels, and c[tall, wide vectors] += a @ b. */

INLINE void score_tile(float *const *s, const float *q, int64_t steps, const float *const *panels, int tall, int wide,
                       int pairs) {
    vec sums[TALL][WIDE];
    UNROLL for (int i = 0; i < tall; i++)
        UNROLL for (int j = 0; j < wide; j++)
            sums[i][j] = (vec){};
    for (int64_t step = 0; step < steps; step++) {
        vec b[WIDE];
        UNROLL for (int j = 0; j < wide; j++)
            b[j] = *(const vec *)(panels[j] + step * LANES);
        UNROLL for (int i = 0; i < tall; i++) {
            vec a = splat(q[i * steps + step]);
            UNROLL for (int j = 0; j < wide; j++)
                sums[i][j] = multiplied(sums[i][j], a, b[j], pairs);
        }
    }
    UNROLL for (int i = 0; i < tall; i++)
        UNROLL for (int j = 0; j < wide; j++)
            *(vec *)(s[j] + i * WIDTH) = sums[i][j];
}

/* The rows of a panel from the first to the last that attends some of it: all others are left out. */
typedef struct {
    int first, end;
} span;

/* `a` and `b` are made of segments of `length` steps: a's lie side by side, b's begin at `segments`. */
typedef struct {
    const float *a;
    int64_t of_row, of_step; /* strides of a */
    const float *const *segments;
    const span *spans; /* the rows of a that are not 0, of each segment; NULL: all */
    int64_t stride; /* of b, a step */
    int count, length;
} factors;

INLINE void sum_tile(float *c, int64_t stride, const factors *f, const float *const *as, const float *const *bs,
                     int count, int tall, int wide, int pairs) {
    vec sums[TALL][WIDE];
    UNROLL for (int i = 0; i < tall; i++)
        UNROLL for (int j = 0; j < wide; j++)
            sums[i][j] = load(c + i * stride + j * LANES);
    const int64_t of_row = f->of_row, of_step = f->of_step, b_stride = f->stride;
    for (int segment = 0; segment < count; segment++) {
        const float *a = as[segment], *b = bs[segment];
        for (int step = 0; step < f->length; step++, b += b_stride, a += of_step) {
            vec vectors[WIDE];
            UNROLL for (int j = 0; j < wide; j++)
                vectors[j] = load(b + j * LANES);
            UNROLL for (int i = 0; i < tall; i++) {
                vec x = splat(a[i * of_row]);
                UNROLL for (int j = 0; j < wide; j++)
                    sums[i][j] = multiplied(sums[i][j], x, vectors[j], pairs);
            }
        }
    }
    UNROLL for (int i = 0; i < tall; i++)
        UNROLL for (int j = 0; j < wide; j++)
            store(c + i * stride + j * LANES, sums[i][j]);
}

#if WIDE == 4
#define BY_WIDTH(tile, tall, wide) \
    (wide) >= 4 ? (tile(tall, 4), 4) : (wide) >= 2 ? (tile(tall, 2), 2) : (tile(tall, 1), 1)
#else
#define BY_WIDTH(tile, tall, wide) (tile(tall, 1), 1)
#endif
#define BY_SIZE(tile, tall, wide) \
    (tall) >= 6 ? (BY_WIDTH(tile, 6, wide)) : (tall) >= 4 ? (BY_WIDTH(tile, 4, wide)) \
    : (tall) >= 2 ? (BY_WIDTH(tile, 2, wide)) : (BY_WIDTH(tile, 1, wide))

INLINE int tall_of(int left) { return left >= 6 ? 6 : left >= 4 ? 4 : left >= 2 ? 2 : 1; }

INLINE int meets(const span *of, int first, int count) { return of->first < first + count && of->end > first; }

INLINE void scores_of(float *s, const float *q, int rows, int64_t steps, const float *const *panels,
                      const span *spans, int count, int pairs) {
    for (int first = 0; first < count; first += WIDE)
        for (int i = 0, tall; i < rows; i += tall) {
            const float *some[WIDE];
            float *to[WIDE];
            int n = 0;
            tall = tall_of(rows - i);
            for (int j = first; j < count && j < first + WIDE; j++)
                if (meets(&spans[j], i, tall))
                    some[n] = panels[j], to[n++] = s + i * WIDTH + j * LANES;
            for (int j = 0; j < n;) {
#define TILE(tall, wide) score_tile(to + j, q + i * steps, steps, some + j, tall, wide, pairs)
                j += BY_SIZE(TILE, tall, n - j);
#undef TILE
            }
        }
}

/* c[rows, dims] += a @ b; `dims` is a multiple of LANES. */
INLINE void add_products(float *c, int64_t stride, int rows, int64_t dims, const factors *f, int pairs) {
    for (int64_t column = 0, wide; column < dims; column += wide * LANES) {
        wide = (dims - column) / LANES >= 4 ? 4 : (dims - column) / LANES >= 2 ? 2 : 1;
        wide = wide < WIDE ? wide : WIDE;
        for (int i = 0, tall; i < rows; i += tall) {
            const float *as[CHUNK], *bs[CHUNK];
            int n = 0;
            tall = tall_of(rows - i);
            for (int j = 0; j < f->count; j++)
                if (!f->spans || meets(&f->spans[j], i, tall)) {
                    as[n] = f->a + i * f->of_row + j * f->length * f->of_step;
                    bs[n++] = f->segments[j] + column;
                }
#define TILE(tall, wide) sum_tile(c + i * stride + column, stride, f, as, bs, n, tall, wide, pairs)
            if (n)
                (void)(BY_SIZE(TILE, tall, wide));
#undef TILE
        }
    }
}

static void scores_by_type(float *s, const float *q, int rows, int64_t steps, const float *const *panels,
                           const span *spans, int count, int pairs) {
    if (pairs)
        scores_of(s, q, rows, steps, panels, spans, count, 1);
    else
        scores_of(s, q, rows, steps, panels, spans, count, 0);
}

static void add_by_type(float *c, int64_t stride, int rows, int64_t dims, const factors *f, int pairs) {
    if (pairs)
        add_products(c, stride, rows, dims, f, 1);
    else
        add_products(c, stride, rows, dims, f, 0);
}

/* The lanes of two rows whose bit `size` is 0, and those whose bit is 1, side by side. */
#define LOW(lane, size) ((lane) & ~(size)) + ((lane) & (size) ? 16 : 0)
#define HIGH(lane, size) ((lane) | (size)) + ((lane) & (size) ? 16 : 0)
#define EXCHANGE(x, size)                                      \
    UNROLL for (int i = 0; i < LANES; i++)                     \
        if (!(i & (size))) {                                   \
            ints a = x[i], b = x[i + (size)];                  \
            x[i] = SHUFFLED(a, b, LOW, size);                  \
            x[i + (size)] = SHUFFLED(a, b, HIGH, size);        \
        }

/* The 16 x 16 words of `x`, transposed. */
INLINE void transpose(ints x[LANES]) {
    EXCHANGE(x, 8)
    EXCHANGE(x, 4)
    EXCHANGE(x, 2)
    EXCHANGE(x, 1)
}

#define ADD_HALVES(x, size)                                                                      \
    UNROLL for (int i = 0; i < (size); i++) {                                                    \
        ints a = (ints)x[i], b = (ints)x[i + (size)];                                            \
        x[i] = (vec)SHUFFLED(a, b, LOW, size) + (vec)SHUFFLED(a, b, HIGH, size);                 \
    }

/* The sums of 16 vectors, one in each lane. */
INLINE vec sums_of(vec x[LANES]) {
    ADD_HALVES(x, 8)
    ADD_HALVES(x, 4)
    ADD_HALVES(x, 2)
    ADD_HALVES(x, 1)
    return x[0];
}

#define LARGER_HALVES(x, size)                                                                   \
    UNROLL for (int i = 0; i < (size); i++) {                                                    \
        ints a = (ints)x[i], b = (ints)x[i + (size)];                                            \
        x[i] = larger((vec)SHUFFLED(a, b, LOW, size), (vec)SHUFFLED(a, b, HIGH, size));          \
    }

/* The largest elements of 16 vectors, one in each lane. */
INLINE vec largest_of(const vec from[LANES]) {
    vec x[LANES];
    memcpy(x, from, sizeof(x));
    LARGER_HALVES(x, 8)
    LARGER_HALVES(x, 4)
    LARGER_HALVES(x, 2)
    LARGER_HALVES(x, 1)
    return x[0];
}

/* The products of one query, whole vectors of words, with keys where they lie. */
INLINE vec products_in_place(const float *q, const char *const *keys, int64_t steps, int pairs) {
    vec sums[LANES];
    for (int lane = 0; lane < LANES; lane += 4) { /* few at a time: memory is read row by row */
        vec some[4] = {};
        for (int64_t n = 0; n < steps; n += LANES) {
            vec a = load(q + n);
            UNROLL for (int i = 0; i < 4; i++)
                some[i] = multiplied(some[i], a, load((const float *)keys[lane + i] + n), pairs);
        }
        UNROLL for (int i = 0; i < 4; i++)
            sums[lane + i] = some[i];
    }
    return sums_of(sums);
}

/* Sizes and addresses */

typedef struct {
    const call *c;
    int pairs;            /* whether words are pairs of halves */
    int64_t steps, value_steps; /* words of a key, and of a value in panels */
    int64_t dims, value_dims;   /* padded to whole vectors */
    int64_t panels, block_panels;
} sizes;

INLINE int64_t rounded_up(int64_t x, int64_t to) { return (x + to - 1) / to * to; }

static sizes sizes_of(const call *c) {
    sizes z = {.c = c};
    z.pairs = HAS_PAIRS && c->q.type == BFLOAT16 && c->k.type == BFLOAT16 && c->v.type == BFLOAT16;
    z.steps = z.pairs ? (c->dim + 1) / 2 : c->dim;
    z.value_steps = z.pairs ? (c->value_dim + 1) / 2 : c->value_dim;
    z.dims = rounded_up(c->dim, LANES);
    z.value_dims = rounded_up(c->value_dim, LANES);
    z.block_panels = (c->key_block + LANES - 1) / LANES;
    int64_t blocks = (c->keys + c->key_block - 1) / c->key_block;
    z.panels = blocks * z.block_panels;
    return z;
}

/* The first key of a panel and its number of keys, which may be 0. */
INLINE int panel_keys(const sizes *z, int b, int64_t panel, int64_t *first) {
    int64_t block = panel, within = 0;
    if (z->block_panels > 1)
        block = panel / z->block_panels, within = panel % z->block_panels * LANES;
    *first = block * z->c->key_block + within;
    int64_t end = (block + 1) * z->c->key_block;
    if (end > z->c->keys)
        end = z->c->keys;
    if (z->c->lengths && end > z->c->lengths[b]) /* there may be no memory behind the keys that exist */
        end = z->c->lengths[b];
    int64_t count = end - *first;
    return count < 0 ? 0 : count > LANES ? LANES : (int)count;
}

/* The address of a key or a value; `number` is in the order of computation. */
INLINE const char *key_row(const sizes *z, const tensor *t, int b, int key_head, int64_t number) {
    const call *c = z->c;
    if (c->key_at)
        number = c->key_at[b * c->key_at_batch + key_head * c->key_at_head + number];
    int64_t entry = b;
    if (c->page) {
        entry = c->pages[b * c->pages_batch + number / c->page];
        entry = entry < 0 ? 0 : entry;
        number %= c->page;
    }
    return t->data + (entry * t->batch + key_head * t->head + number * t->token) * size_of(t->type);
}

INLINE int64_t query_number(const call *c, int b, int head, int64_t number) {
    return c->query_at ? c->query_at[b * c->query_at_batch + head * c->query_at_head + number] : number;
}

INLINE char *query_row(const sizes *z, const tensor *t, int b, int head, int64_t number) {
    return t->data + (b * t->batch + head * t->head + query_number(z->c, b, head, number) * t->token) * size_of(t->type);
}

/* Packing */

/* Rows of words to a panel: [steps, LANES]. Lanes from `count` on are 0. */
static void pack_panel(const sizes *z, float *to, const char *const *rows, int count, int64_t dim, int64_t type) {
    int64_t steps = z->pairs ? (dim + 1) / 2 : dim;
    for (int64_t first = 0; first < steps; first += LANES) {
        int64_t here = steps - first < LANES ? steps - first : LANES;
        ints words[LANES];
        for (int lane = 0; lane < LANES; lane++) {
            words[lane] = (ints){};
            if (lane >= count)
                continue;
            if (z->pairs) {
                int64_t bytes = (dim - 2 * first) * 2;
                if (bytes >= 64)
                    words[lane] = *(const loose_ints *)(rows[lane] + first * 4);
                else
                    memcpy(&words[lane], rows[lane] + first * 4, bytes);
            } else if (type == FLOAT32) {
                if (here == LANES)
                    words[lane] = *(const loose_ints *)(rows[lane] + first * 4);
                else
                    memcpy(&words[lane], rows[lane] + first * 4, here * 4);
            } else {
                load_row((float *)&words[lane], rows[lane] + first * size_of(type), here, type);
            }
        }
        transpose(words);
        for (int step = 0; step < here; step++)
            *(ints *)(to + (first + step) * LANES) = words[step];
    }
}

/* Rows as they are multiplied by probabilities, padded: [LANES, dims] floats, or [LANES / 2, dims] pairs of rows. */
static void pack_rows(float *to, const char *const *rows, int count, int64_t dim, int pairs, int64_t type) {
    int64_t dims = rounded_up(dim, LANES);
    if (!pairs) {
        for (int lane = 0; lane < LANES; lane++, to += dims) {
            if (lane < count && dims == dim && type == FLOAT32) {
                for (int64_t n = 0; n < dims; n += LANES)
                    *(vec *)(to + n) = load((const float *)rows[lane] + n);
                continue;
            }
            int64_t real = lane < count ? dim : 0;
            if (real)
                load_row(to, rows[lane], dim, type);
            memset(to + real, 0, (dims - real) * 4);
        }
        return;
    }
    for (int lane = 0; lane < LANES; lane += 2, to += dims) {
        for (int64_t n = 0; n < dims; n += LANES) {
            halves both[2] = {};
            for (int one = 0; one < 2; one++) {
                if (lane + one >= count || n >= dim)
                    continue;
                const uint16_t *from = (const uint16_t *)rows[lane + one] + n;
                if (dim - n >= LANES)
                    both[one] = *(const loose_halves *)from;
                else
                    memcpy(&both[one], from, (dim - n) * 2);
            }
            ints low = __builtin_convertvector(both[0], ints), high = __builtin_convertvector(both[1], ints);
            *(ints *)(to + n) = low | high << 16;
        }
    }
}

/* Words of a query, scaled by nothing: [steps]. */
INLINE void pack_query(const sizes *z, float *to, const char *row, int64_t dim) {
    int64_t steps = z->pairs ? (dim + 1) / 2 : dim;
    if (z->pairs) {
        to[steps - 1] = 0;
        memcpy(to, row, dim * 2);
    } else
        load_row(to, row, dim, z->c->q.type);
}

/* What one unit has packed; parts may be NULL. */
typedef struct {
    float *keys, *values;             /* panels of keys, rows of values */
    float *key_rows, *value_panels;   /* for gradients */
    float *sums;                      /* of dK and dV of each part of its rows, in panels */
} packed;

/* Whether the keys of a panel lie at equal distances. */
INLINE int lie_in_order(const sizes *z) {
    return !z->c->key_at && (!z->c->page || (z->c->page % LANES == 0 && z->c->key_block % LANES == 0));
}

/* The addresses of the keys or values of a panel, and how many there are; the last one again where there are fewer. */
static int find_keys(const sizes *z, const tensor *t, int b, int key_head, int64_t panel, const char **rows) {
    int64_t first;
    const int count = panel_keys(z, b, panel, &first);
    if (lie_in_order(z)) {
        const char *row = key_row(z, t, b, key_head, first);
        for (int lane = 0; lane < LANES; lane++)
            rows[lane] = row + (lane < count ? lane : count - 1) * t->token * size_of(t->type);
    } else
        for (int lane = 0; lane < LANES; lane++)
            rows[lane] = lane < count ? key_row(z, t, b, key_head, first + lane) : rows[lane - 1];
    return count;
}

/* Whether values of whole panels need no packing. */
INLINE int values_lie_dense(const sizes *z) {
    return z->c->v.type == FLOAT32 && z->c->v.token == z->value_dims && lie_in_order(z);
}

/* Floats of the values of a panel, packed. */
INLINE int64_t value_size(const sizes *z) { return z->value_dims * LANES / (z->pairs ? 2 : 1); }

static void pack_one(const sizes *z, const packed *p, int backward, int b, int key_head, int64_t panel) {
    const call *c = z->c;
    const char *rows[LANES];
    if (!panel_keys(z, b, panel, &(int64_t){0}))
        return;
    const int count = find_keys(z, &c->k, b, key_head, panel, rows);
    pack_panel(z, p->keys + panel * z->steps * LANES, rows, count, c->dim, c->k.type);
    if (backward)
        pack_rows(p->key_rows + panel * z->dims * LANES, rows, count, c->dim, 0, c->k.type);
    find_keys(z, &c->v, b, key_head, panel, rows);
    if (backward)
        pack_panel(z, p->value_panels + panel * z->value_steps * LANES, rows, count, c->value_dim, c->v.type);
    else if (!values_lie_dense(z) || count < LANES)
        pack_rows(p->values + panel * value_size(z), rows, count, c->value_dim, z->pairs, c->v.type);
}

/* Rows and their chunks of panels */

typedef struct {
    const call *c;
    const sizes *z;
    int b, head; /* the first of the row's heads */
    int rows; /* queries of all its heads */
    const row *r;
    int16_t heads[ROW], queries[ROW]; /* the head of each, and its word in masks */
    int32_t numbers[ROW];             /* in the order of computation */
    const int32_t *members;           /* of a row of a segment */
    int64_t run, panel; /* where the next chunk begins */
    int64_t left;       /* panels up to the end of the row, or of a part of it */
} walk;

typedef struct {
    int count;
    int64_t panels[CHUNK], keys[CHUNK]; /* panels, and the first key of each */
    const uint16_t *words[CHUNK]; /* NULL: full */
    const float *bias[CHUNK];
    int64_t bias_number[CHUNK];
    uint16_t lanes[CHUNK]; /* the lanes that hold keys */
    span spans[CHUNK];     /* the rows that attend */
} chunk;

/* The lanes of a panel whose keys exist. */
static uint16_t lanes_of(const sizes *z, int b, int64_t first, int held) {
    const call *c = z->c;
    uint16_t lanes = (uint16_t)((1 << held) - 1);
    for (int lane = 0; c->page && lane < held; lane++)
        if (c->pages[b * c->pages_batch + (first + lane) / c->page] < 0)
            lanes &= (uint16_t)~(1 << lane);
    return lanes;
}

/* The queries of a mask from the first to the last with a bit. */
static span span_of(const uint16_t *words, int count) {
    span s = {0, count};
    while (s.end && !words[s.end - 1])
        s.end--;
    while (s.first < s.end && !words[s.first])
        s.first++;
    return s;
}

/* The next panels of a row; 0 at its end. Panels without pairs are left out. */
static int next_chunk(walk *w, chunk *to) {
    const call *c = w->c;
    int64_t left = w->left;
    to->count = 0;
    while (w->run < w->r->run + w->r->runs && left && to->count < CHUNK) {
        const run *here = c->runs + w->run;
        if (w->panel == here->panels) {
            w->run++, w->panel = 0;
            continue;
        }
        int64_t n = w->panel++, panel = here->panel + n, first;
        left--;
        int held = panel_keys(w->z, w->b, panel, &first);
        int64_t mask = here->mask < -1 ? -2 - here->mask : here->mask + n;
        const uint16_t *words = here->mask == -1 ? NULL : c->words + mask * c->height + w->r->word;
        uint16_t lanes = lanes_of(w->z, w->b, first, held);
        span attending = words ? span_of(words, w->r->count) : (span){0, w->r->count};
        if (!lanes || attending.first == attending.end)
            continue;
        to->spans[to->count] = c->fold == 1 || w->members ? attending : (span){0, w->rows};
        to->panels[to->count] = panel, to->keys[to->count] = first;
        to->words[to->count] = words;
        to->lanes[to->count] = lanes;
        to->bias[to->count] = NULL;
        if (here->bias >= 0) {
            to->bias_number[to->count] = here->bias + n;
            int64_t number = (here->bias + n) * PAIR_TERMS * c->height + w->r->word;
            to->bias[to->count] = c->bias + w->b * c->bias_batch + number * LANES;
        }
        to->count++;
    }
    w->left = left;
    return to->count;
}

/* hole: scores */
/* What scores are multiplied by before exponentials of base two: already, where they are products alone. With biases,
   caps and sinks they stay in base e until their maximum is subtracted, as finfo.min * log2(e) would be -inf. */
INLINE float base_of(const call *c) { return c->bias || c->cap != 0 || c->sinks ? 1 : LOG2_E; }

/* The scores of one query and the keys of a panel, from products, and their derivative by scaled products. */
INLINE vec score_of(const walk *w, const chunk *at, int j, int i, vec s, vec *derivatives) {
    const call *c = w->c;
    const float *bias = at->bias[j] ? at->bias[j] + w->heads[i] * c->bias_head + (int64_t)w->queries[i] * LANES : NULL;
    derivatives[0] = splat(1);
    if (!bias && c->cap == 0)
        return s * (c->scale * base_of(c));
    s = s * c->scale;
    if (c->cap != 0) {
        vec t = hyperbolic_tangent(s * (1 / c->cap));
        derivatives[0] = 1 - t * t;
        s = t * c->cap;
    }
    return bias ? s + load(bias) : s;
}
/* end */
INLINE float late_base_of(const call *c) { return LOG2_E / base_of(c); }

/* The lanes of a panel that attend. */
INLINE uint16_t word_of(const chunk *at, int j, int query) {
    return at->words[j] ? at->words[j][query] & at->lanes[j] : at->lanes[j];
}

INLINE vec where(uint16_t word, vec x, float otherwise) {
    return word == 0xffff ? x : choose((splat_int(word) & LANE_BITS) != 0, x, splat(otherwise));
}

/* These scores, and those of pairs that do not attend. */
INLINE vec final_score(const walk *w, const chunk *at, int j, int i, vec s, vec *derivatives) {
    return where(word_of(at, j, w->queries[i]), score_of(w, at, j, i, s, derivatives), ABSENT);
}

/* Parallel work */

enum fault { NONE, NOT_FINITE, NO_MEMORY };

static void *aligned(int64_t bytes) {
    void *memory = NULL;
    return posix_memalign(&memory, 64, rounded_up(bytes, 64) + 64) ? NULL : memory;
}

typedef struct {
    void (*work)(void *context, int64_t item, float *memory);
    void *context;
    int64_t items, floats; /* `floats`: of the memory that one item needs at a time */
    atomic_llong next;
} team;

static void take_items(void *argument) {
    team *t = argument;
    float *memory = atomic_load(&t->next) < t->items ? aligned(t->floats * 4) : NULL;
    for (int64_t item; memory && (item = atomic_fetch_add(&t->next, 1)) < t->items;)
        t->work(t->context, item, memory);
    free(memory);
}

static void *member(void *argument) {
    take_items(argument);
    return NULL;
}

/* Threads that live as long as one call. Without a thread, the others take its items. */
static void with_new_threads(team *t, int threads) {
    pthread_t others[MOST_THREADS];
    int made = 0;
    while (made + 1 < threads && made + 1 < t->items && made < MOST_THREADS) {
        if (pthread_create(&others[made], NULL, member, t))
            break;
        made++;
    }
    take_items(t);
    while (made)
        pthread_join(others[--made], NULL);
}

/* GNU OpenMP's function that calls `work` on all threads of its pool at once, and waits for them. */
typedef void pool_function(void (*work)(void *), void *context, unsigned threads, unsigned flags);
static _Atomic(pool_function *) pool;

static void leave_pool(void) { atomic_store(&pool, NULL); }

/* Takes the threads of the pool that the caller's other work is on, which keep their processors busy for a while
   after it: new threads would wait for these. A forked child has none of them, and makes its own. */
void maskdsl_use_pool(pool_function *its) {
    if (!pthread_atfork(NULL, NULL, leave_pool))
        atomic_store(&pool, its);
}

/* Returns a `fault`. */
static int for_each(void (*work)(void *, int64_t, float *), void *context, int64_t items, int64_t floats, int threads) {
    team t = {.work = work, .context = context, .items = items, .floats = floats};
    pool_function *of_caller = atomic_load(&pool);
    if (threads == 1 || items == 1)
        take_items(&t);
    else if (of_caller)
        of_caller(take_items, &t, threads, 0);
    else
        with_new_threads(&t, threads);
    return atomic_load(&t.next) < items ? NO_MEMORY : NONE;
}

/* Some units, from `first` on, that are computed together. */
typedef struct {
    const call *c;
    sizes z;
    int64_t first, units;
    packed *of_unit;     /* of the first unit, others follow; NULL where rows pack panels */
    const uint8_t *used; /* the panels that some row takes: others are not packed; NULL: all are */
    int64_t *ends;       /* the rows up to each head of a unit, and of the units before it */
    int64_t parts;       /* backward: of the rows of a unit */
    int backward, threads;
    atomic_int fault;
} group;

static void pack_item(void *context, int64_t item, float *memory) {
    (void)memory;
    group *g = context;
    int64_t pieces = (g->z.panels + CHUNK - 1) / CHUNK, unit = item / pieces;
    int b = (g->first + unit) / g->c->key_heads, key_head = (g->first + unit) % g->c->key_heads;
    for (int64_t panel = item % pieces * CHUNK, n = 0; n < CHUNK && panel < g->z.panels; n++, panel++)
        if (!g->used || g->used[panel])
            pack_one(&g->z, &g->of_unit[unit], g->backward, b, key_head, panel);
}

static _Atomic(int64_t *) spare; /* memory of an earlier call, which begins with its size; NULL: none, or in use */

/* Divides memory into arrays of these sizes; returns how many floats they take together. Without memory it counts. */
static int64_t divide(float *memory, float ***arrays, const int64_t *floats, int count) {
    int64_t total = 0;
    for (int n = 0; n < count; n++) {
        if (memory)
            *arrays[n] = memory + total;
        total += rounded_up(floats[n], LANES);
    }
    return total;
}

/* Rows of queries or gradients */

INLINE int64_t number_of(const walk *w, int i) { return w->numbers[i]; }

INLINE int64_t scalar_at(const walk *w, int i) {
    const int head = w->heads[i];
    return ((int64_t)w->b * w->c->heads + head) * w->c->queries + query_number(w->c, w->b, head, number_of(w, i));
}

INLINE char *row_at(const walk *w, const tensor *t, int i) {
    return query_row(w->z, t, w->b, w->heads[i], number_of(w, i));
}

static void load_queries(const walk *w, float *to, const tensor *t, int64_t dim, int64_t steps) {
    for (int i = 0; i < w->rows; i++, to += steps)
        pack_query(w->z, to, row_at(w, t, i), dim);
}

static walk walk_of(const group *g, int b, int head, const row *r) {
    walk w = {.c = g->c, .z = &g->z, .b = b, .head = head, .rows = r->count * g->c->fold, .r = r, .run = r->run};
    w.left = INT64_MAX;
    for (int i = 0; i < w.rows; i++)
        w.heads[i] = head + i / r->count, w.queries[i] = i % r->count, w.numbers[i] = r->first + w.queries[i];
    return w;
}

/* The walk of `count` members of a segment, which may be those of its row `r`. */
static walk walk_of_members(const group *g, int b, int head, const segment *s, const int32_t *members, int count,
                            const row *r) {
    walk w = {.c = g->c, .z = &g->z, .b = b, .head = head, .rows = count, .r = r, .members = members};
    w.run = r ? r->run : 0, w.left = INT64_MAX;
    for (int i = 0; i < count; i++) {
        w.heads[i] = head + members[i] / s->count, w.queries[i] = i;
        w.numbers[i] = s->first + members[i] % s->count;
    }
    return w;
}

/* All members of a segment from `first` on, at most a row of them, which are written to `members`. */
static walk walk_on(const group *g, int b, int head, const segment *s, int64_t first, int32_t members[ROW]) {
    int64_t left = (int64_t)s->count * g->c->fold - first;
    int count = left < ROW ? (int)left : ROW;
    for (int i = 0; i < count; i++)
        members[i] = (int32_t)first + i;
    return walk_of_members(g, b, head, s, members, count, NULL);
}

/* Forward */

/* What a row keeps: queries, scores, the output's sums, and probabilities in halves. */
typedef struct {
    float *q, *s, *out, *halves;
    float m[ROW], l[ROW]; /* of rows that there are not: no keys */
} state;

/* Without `sinks` they count in another part of the row. */
static void begin(const walk *w, state *t, int sinks) {
    memset(t->out, 0, w->rows * w->z->value_dims * 4);
    for (int i = 0; i < ROW; i++) {
        float sink = sinks && w->c->sinks && i < w->rows ? w->c->sinks[scalar_at(w, i)] : -INFINITY;
        t->m[i] = sink * base_of(w->c);
        t->l[i] = sink == -INFINITY ? 0 : 1;
    }
}

/* hole: online */
/* The online softmax of a chunk, LANES rows at a time: its probabilities take the places of its scores. */
static void online(const walk *w, const chunk *at, state *t) {
    const call *c = w->c;
    const int64_t dims = w->z->value_dims;
    const float base = late_base_of(c);
    for (int first = 0; first < w->rows; first += LANES) {
        const int rows = w->rows - first < LANES ? w->rows - first : LANES;
        float *s = t->s + first * WIDTH;
        vec each[LANES], derivatives[DERIVATIVES];
        for (int i = 0; i < rows; i++) {
            vec top = splat(-INFINITY);
            for (int j = 0; j < at->count; j++) {
                vec *here = (vec *)(s + i * WIDTH + j * LANES);
                const int attends = at->spans[j].first <= first + i && first + i < at->spans[j].end;
                *here = attends ? final_score(w, at, j, first + i, *here, derivatives) : splat(ABSENT);
                top = larger(*here, top);
            }
            each[i] = top;
        }
        for (int i = rows; i < LANES; i++)
            each[i] = splat(-INFINITY);
        const vec before = load(t->m + first), m = larger(largest_of(each), before);
        const vec used = choose(m == -INFINITY, (vec){}, m);
        const vec factor = choose(before == -INFINITY, (vec){}, power_of_two((before - used) * base));
        for (int i = 0; i < rows; i++) {
            vec total = {};
            for (int j = 0; j < at->count; j++) {
                vec *here = (vec *)(s + i * WIDTH + j * LANES);
                *here = power_of_two((*here - used[i]) * base);
                total += *here;
                /* hole: weight */
                /* end */
            }
            each[i] = total;
            if (before[i] != m[i] && before[i] != -INFINITY) {
                float *out = t->out + (first + i) * dims;
                for (int64_t n = 0; n < dims; n += LANES)
                    store(out + n, load(out + n) * factor[i]);
            }
            if (w->z->pairs)
                for (int j = 0; j < at->count; j++)
                    *(loose_halves *)(t->halves + (first + i) * WIDTH / 2 + j * LANES / 2) =
                        to_bfloat16(*(vec *)(s + i * WIDTH + j * LANES));
        }
        store(t->m + first, m);
        store(t->l + first, load(t->l + first) * factor + sums_of(each));
    }
}

/* end */
/* Writes the results of a row. Returns whether they are finite. */
static int finish(const walk *w, state *t) {
    const call *c = w->c;
    vec total = {};
    for (int first = 0; first < w->rows; first += LANES) {
        /* hole: sums */
        const vec l = load(t->l + first), m = load(t->m + first);
        /* end */
        const vec factors = choose(l == 0, (vec){}, 1 / l);
        const vec lse = choose(l == 0, splat(-INFINITY), m * (1 / base_of(c)) + logarithm(l));
        for (int i = 0; i < LANES && first + i < w->rows; i++) {
            float *out = t->out + (first + i) * w->z->value_dims;
            const float factor = factors[i] * (c->factor && factors[i] != 0 ? c->factor[scalar_at(w, first + i)] : 1);
            for (int64_t n = 0; n < w->z->value_dims; n += LANES) {
                vec x = load(out + n) * factor;
                total += x * 0.0f;
                store(out + n, x);
            }
            total += splat(factors[i] == 0 ? l[i] : lse[i] * 0.0f);
            if (c->lse)
                c->lse[scalar_at(w, first + i)] = lse[i];
            store_row(row_at(w, &c->out, first + i), out, c->value_dim, c->out.type);
        }
    }
    return sum(total) == 0;
}

/* Asks for rows that are read later, or for those that lie `ahead` bytes behind them: few queries wait for memory. */
INLINE void ask_for(const char *const *rows, int64_t ahead, int64_t bytes) {
    for (int lane = 0; lane < LANES; lane++)
        for (int64_t n = 0; n < bytes; n += 64)
            __builtin_prefetch(rows[lane] + ahead + n, 0, 2);
}

/* The scores of a chunk, and where its values are: packed before, or packed now into `own`. */
static void score_chunk(const walk *w, const chunk *at, state *t, const packed *p, const packed *own,
                        const float **values) {
    const sizes *z = w->z;
    const int64_t key_size = z->steps * LANES;
    const int key_head = w->head / (w->c->heads / w->c->key_heads);
    const tensor *k = &w->c->k, *v = &w->c->v;
    const int64_t key_bytes = size_of(k->type), value_bytes = size_of(v->type);
    const int in_place = !p && w->rows <= FEW && z->steps % LANES == 0 && (z->pairs || k->type == FLOAT32);
    const float *keys[CHUNK];
    for (int j = 0; j < at->count; j++) {
        const char *rows[LANES];
        const int count = find_keys(z, v, w->b, key_head, at->panels[j], rows);
        const int lie_dense = values_lie_dense(z) && count == LANES;
        keys[j] = p ? p->keys + at->panels[j] * key_size : own->keys + j * key_size;
        values[j] = lie_dense ? (const float *)rows[0]
                    : p ? p->values + at->panels[j] * value_size(z) : own->values + j * value_size(z);
        if (p)
            continue;
        ask_for(rows, 0, w->c->value_dim * value_bytes);
        find_keys(z, k, w->b, key_head, at->panels[j], rows);
        ask_for(rows, AHEAD * LANES * k->token * key_bytes, w->c->dim * key_bytes);
        if (in_place)
            for (int i = 0; i < w->rows; i++)
                *(vec *)(t->s + i * WIDTH + j * LANES) = z->pairs
                    ? products_in_place(t->q + i * z->steps, rows, z->steps, 1)
                    : products_in_place(t->q + i * z->steps, rows, z->steps, 0);
        else
            pack_panel(z, own->keys + j * key_size, rows, count, w->c->dim, k->type);
        if (lie_dense)
            continue;
        find_keys(z, v, w->b, key_head, at->panels[j], rows);
        pack_rows(own->values + j * value_size(z), rows, count, w->c->value_dim, z->pairs, v->type);
    }
    if (!in_place)
        scores_by_type(t->s, t->q, w->rows, z->steps, keys, at->spans, at->count, z->pairs);
}

/* Adds the panels of a row to its state. */
static void add_panels(group *g, int64_t unit, walk *w, state *t, const packed *own) {
    const sizes *z = &g->z;
    const packed *p = g->of_unit ? &g->of_unit[unit] : NULL;
    chunk at;
    load_queries(w, t->q, &g->c->q, g->c->dim, z->steps);
    while (next_chunk(w, &at)) {
        const float *values[CHUNK];
        score_chunk(w, &at, t, p, own, values);
        online(w, &at, t);
        factors f = {z->pairs ? t->halves : t->s, z->pairs ? WIDTH / 2 : WIDTH, 1, values, at.spans, z->value_dims,
                     at.count, z->pairs ? LANES / 2 : LANES};
        add_by_type(t->out, z->value_dims, w->rows, z->value_dims, &f, z->pairs);
    }
}

static void forward_row(group *g, int64_t unit, int head, const row *r, state *t, const packed *own) {
    walk w = walk_of(g, (g->first + unit) / g->c->key_heads, head, r);
    begin(&w, t, 1);
    add_panels(g, unit, &w, t, own);
    if (!finish(&w, t))
        atomic_store(&g->fault, NOT_FINITE);
}

/* Moves what members have so far to `kept`, which is of all members of their segment, or back. */
static void exchange(const walk *w, state *t, float *kept, int stores) {
    const int64_t dims = w->z->value_dims;
    for (int i = 0; i < w->rows; i++) {
        float *of = kept + w->members[i] * (dims + LANES), *out = t->out + i * dims;
        if (stores)
            memcpy(of, out, dims * 4), of[dims] = t->m[i], of[dims + 1] = t->l[i];
        else
            memcpy(out, of, dims * 4), t->m[i] = of[dims], t->l[i] = of[dims + 1];
    }
}

static void forward_segment(group *g, int64_t unit, int head, const segment *s, state *t, const packed *own) {
    const call *c = g->c;
    const int b = (g->first + unit) / c->key_heads;
    const int64_t all = (int64_t)s->count * c->fold;
    float *kept = aligned(all * (g->z.value_dims + LANES) * 4);
    int32_t members[ROW];
    if (!kept) {
        atomic_store(&g->fault, NO_MEMORY);
        return;
    }
    for (int64_t n = 0; n < all; n += ROW) {
        walk w = walk_on(g, b, head, s, n, members);
        begin(&w, t, 1);
        exchange(&w, t, kept, 1);
    }
    for (const row *r = c->rows + s->row; r < c->rows + s->row + s->rows; r++) {
        walk w = walk_of_members(g, b, head, s, c->members + r->first, r->count, r);
        exchange(&w, t, kept, 0);
        add_panels(g, unit, &w, t, own);
        exchange(&w, t, kept, 1);
    }
    for (int64_t n = 0; n < all; n += ROW) {
        walk w = walk_on(g, b, head, s, n, members);
        exchange(&w, t, kept, 0);
        if (!finish(&w, t))
            atomic_store(&g->fault, NOT_FINITE);
    }
    free(kept);
}

/* The unit and the head of an item, and the number of its row, from the last to the first: long rows come last. */
static int64_t find_row(const group *g, int64_t item, int64_t *unit, int *head) {
    const call *c = g->c;
    int64_t heads = c->heads / c->key_heads / c->fold, n = 0;
    while (g->ends[n] <= item)
        n++;
    *unit = n / heads;
    *head = (g->first + *unit) % c->key_heads * (c->heads / c->key_heads) + n % heads * c->fold;
    return g->ends[n] - 1 - item;
}

/* The first of the rows of a head, or of its segments, and their number. */
static int64_t rows_of(const call *c, int64_t b, int head, int64_t *count) {
    int32_t number = c->classes[b * c->heads + head];
    *count = c->class_rows[number + 1] - c->class_rows[number];
    return c->class_rows[number];
}

static int64_t forward_memory(const sizes *z, float *memory, state *t, packed *own) {
    const int64_t key_size = z->steps * LANES * CHUNK, value_size = z->value_dims * LANES * CHUNK;
    float **arrays[] = {&t->q, &t->s, &t->out, &t->halves, &own->keys, &own->values};
    int64_t floats[] = {ROW * z->steps, ROW * WIDTH, ROW * z->value_dims, ROW * WIDTH / 2, key_size, value_size};
    return divide(memory, arrays, floats, 6);
}

static void forward_item(void *context, int64_t item, float *memory) {
    group *g = context;
    int64_t unit, count;
    int head;
    int64_t number = find_row(g, item, &unit, &head);
    number += rows_of(g->c, (g->first + unit) / g->c->key_heads, head, &count);
    state t;
    packed own;
    forward_memory(&g->z, memory, &t, &own);
    if (g->c->segments)
        forward_segment(g, unit, head, g->c->segments + number, &t, &own);
    else
        forward_row(g, unit, head, g->c->rows + number, &t, &own);
}

/* The number of rows of the heads of a group's units. */
static int64_t count_rows(group *g) {
    const call *c = g->c;
    int64_t heads = c->heads / c->key_heads / c->fold, total = 0, count;
    for (int64_t unit = 0; unit < g->units; unit++) {
        int64_t b = (g->first + unit) / c->key_heads;
        int64_t first = (g->first + unit) % c->key_heads * (c->heads / c->key_heads);
        for (int64_t n = 0; n < heads; n++) {
            rows_of(c, b, first + n * c->fold, &count);
            g->ends[unit * heads + n] = total += count;
        }
    }
    return total;
}

/* The memory of one unit: see `divide`. */
static int64_t unit_memory(const sizes *z, float *memory, packed *p, int backward, int64_t parts) {
    const int64_t keys = z->panels * LANES;
    float **arrays[] = {&p->keys, &p->values, &p->key_rows, &p->value_panels, &p->sums};
    const int64_t forward[] = {keys * z->steps, keys * z->value_dims / (z->pairs ? 2 : 1)};
    const int64_t gradients[] = {keys * z->steps, 0, keys * z->dims, keys * z->value_steps,
                                 keys * (z->dims + z->value_dims) * parts};
    return divide(memory, arrays, backward ? gradients : forward, backward ? 5 : 2);
}

/* Memory of this call or of an earlier one: fresh pages would cost as much as packing. */
static float *take(int64_t bytes) {
    int64_t *block = atomic_exchange(&spare, NULL);
    if (block && *block < bytes)
        free(block), block = NULL;
    if (!block && (block = aligned(bytes + 64)))
        *block = bytes;
    return block ? (float *)block + LANES : NULL;
}

static void give_back(float *memory) {
    int64_t *block = (int64_t *)(memory - LANES);
    free(*block <= SPARE ? atomic_exchange(&spare, block) : block);
}

static int64_t panels_of(const call *c, const row *r) {
    int64_t panels = 0;
    for (int64_t n = r->run; n < (int64_t)r->run + r->runs; n++)
        panels += c->runs[n].panels;
    return panels;
}

/* Products of the pairs of a row, for each of which there are `of_pair`. */
static int64_t products_of(const call *c, const row *r, int64_t of_pair) {
    return panels_of(c, r) * LANES * r->count * of_pair;
}

/* The threads of a call: each has work for longer than it takes to start. */
static int threads_of(const call *c) {
    const int64_t of_pair = c->dim + c->value_dim, enough = LEAST_WORK * (int64_t)c->threads;
    int64_t products = 0, count;
    for (int64_t unit = 0; unit < (int64_t)c->batch * c->heads && products < enough; unit += c->fold) {
        const int64_t first = rows_of(c, unit / c->heads, unit % c->heads, &count);
        for (int64_t n = first; n < first + count && products < enough; n++) {
            if (!c->segments) {
                products += products_of(c, c->rows + n, of_pair * c->fold);
                continue;
            }
            const segment *s = c->segments + n;
            for (int64_t r = s->row; r < s->row + s->rows; r++)
                products += products_of(c, c->rows + r, of_pair);
        }
    }
    const int useful = products < enough ? 1 + (int)(products / LEAST_WORK) : c->threads;
    return useful > 1 && atomic_load(&pool) ? c->threads : useful; /* a pool of another size would be made anew */
}

static void use_row(const call *c, const row *r, uint8_t *used) {
    for (int64_t n = r->run; n < (int64_t)r->run + r->runs; n++)
        memset(used + c->runs[n].panel, 1, c->runs[n].panels);
}

/* Marks the panels of all rows. */
static void use_rows(const call *c, uint8_t *used) {
    int64_t count, before = -1;
    for (int64_t head = 0; head < (int64_t)c->batch * c->heads; head += c->fold) {
        const int64_t first = rows_of(c, head / c->heads, head % c->heads, &count);
        for (int64_t n = first; n < first + count && first != before; n++) {
            const segment *s = c->segments ? c->segments + n : &(segment){.row = n, .rows = 1};
            for (int64_t r = s->row; r < (int64_t)s->row + s->rows; r++)
                use_row(c, c->rows + r, used);
        }
        before = first;
    }
}

/* Calls `compute` for groups of units, whose packed keys and values fit in memory together. */
static int in_groups(const call *c, int backward, int (*compute)(group *)) {
    const sizes z = sizes_of(c);
    const int64_t units = (int64_t)c->batch * c->key_heads, heads = c->heads / c->key_heads / c->fold;
    /* Gradients of biases and of terms of keys are summed by one thread a unit. */
    const int threads = threads_of(c);
    const int64_t parts = c->grad_bias || c->grad_key_terms || units >= threads ? 1 : (threads + units - 1) / units;
    const int packs = c->packs || backward;
    packed one;
    const int64_t floats = packs ? unit_memory(&z, NULL, &one, backward, parts) : 0;
    const int64_t least = backward && threads < units ? threads : backward ? units : 1;
    int64_t together = floats ? PACKED / (floats * 4) : units;
    together = together < least ? least : together > units ? units : together;
    float *memory = packs ? take(together * floats * 4) : NULL;
    packed *of_unit = packs ? malloc(together * sizeof(packed)) : NULL;
    uint8_t *used = packs && !backward ? calloc(z.panels, 1) : NULL;
    int64_t *ends = malloc(together * heads * sizeof(int64_t));
    int fault = !ends || (packs && (!memory || !of_unit || (!used && !backward))) ? NO_MEMORY : NONE;
    if (used)
        use_rows(c, used);
    for (int64_t unit = 0; packs && !fault && unit < together; unit++)
        unit_memory(&z, memory + unit * floats, &of_unit[unit], backward, parts);
    for (int64_t first = 0; first < units && fault != NO_MEMORY; first += together) {
        group g = {.c = c, .z = z, .first = first, .of_unit = of_unit, .used = used, .ends = ends, .parts = parts};
        g.units = units - first < together ? units - first : together;
        g.backward = backward, g.threads = threads;
        int64_t pieces = (z.panels + CHUNK - 1) / CHUNK;
        int failed = packs ? for_each(pack_item, &g, g.units * pieces, 0, threads) : NONE;
        failed = failed ? failed : compute(&g);
        fault = failed > fault ? failed : fault;
    }
    if (memory)
        give_back(memory);
    free(of_unit), free(used), free(ends);
    return fault;
}

/* Parts of rows */

typedef struct {
    int64_t unit, run, panel; /* where it begins */
    int head, is_first;
    const row *r;
    float *sums; /* [queries of all heads, value_dims], and m and l of each query */
} part;

typedef struct {
    group *g;
    part *parts;
    int64_t *ends; /* the parts up to each row, and of the rows before it */
    int64_t longest; /* panels of a part */
} parted;

static const row *row_of(const group *g, int64_t item, int64_t *unit, int *head) {
    int64_t count, number = find_row(g, item, unit, head);
    return g->c->rows + rows_of(g->c, (g->first + *unit) / g->c->key_heads, *head, &count) + number;
}

/* The panels of the longest part: rows of many queries have long ones, as their sums are more to move. */
static int64_t longest_part(const group *g, int64_t rows) {
    int64_t most = 0, queries = 0, unit;
    int head;
    for (int64_t item = 0; item < rows; item++) {
        const row *r = row_of(g, item, &unit, &head);
        const int64_t panels = panels_of(g->c, r), count = r->count * g->c->fold;
        most = panels > most ? panels : most, queries = count > queries ? count : queries;
    }
    const int64_t each = MOST_PARTS / rows, least = PART * ((queries + FEW - 1) / FEW);
    const int64_t longest = rounded_up((most + each - 1) / each, CHUNK);
    return longest < least ? least : longest;
}

/* The parts of all rows, in order, without memory for sums; returns their number. Without `parts` it counts. */
static int64_t find_parts(const parted *all, int64_t rows, part *parts) {
    const call *c = all->g->c;
    int64_t count = 0, unit;
    int head;
    for (int64_t item = 0; item < rows; item++) {
        const row *r = row_of(all->g, item, &unit, &head);
        int64_t run = r->run, panel = 0, left = panels_of(c, r);
        for (int is_first = 1; is_first || left > 0; is_first = 0, left -= all->longest) {
            if (parts)
                parts[count] = (part){unit, run, panel, head, is_first, r, NULL};
            count++;
            for (panel += all->longest; run < r->run + r->runs && panel >= c->runs[run].panels; run++)
                panel -= c->runs[run].panels;
        }
        all->ends[item] = count;
    }
    return count;
}

static walk walk_of_part(const group *g, const part *p) {
    return walk_of(g, (g->first + p->unit) / g->c->key_heads, p->head, p->r);
}

static void part_item(void *context, int64_t item, float *memory) {
    const parted *all = context;
    group *g = all->g;
    const part *p = &all->parts[item];
    state t;
    packed own;
    forward_memory(&g->z, memory, &t, &own);
    walk w = walk_of_part(g, p);
    w.run = p->run, w.panel = p->panel, w.left = all->longest;
    begin(&w, &t, p->is_first);
    add_panels(g, p->unit, &w, &t, &own);
    const int64_t floats = w.rows * g->z.value_dims;
    memcpy(p->sums, t.out, floats * 4);
    memcpy(p->sums + floats, t.m, w.rows * 4), memcpy(p->sums + floats + w.rows, t.l, w.rows * 4);
}

/* Adds the sums of a part to those of the parts before it. */
static void add_part(const walk *w, state *t, const part *p) {
    const float base = late_base_of(w->c), *more = p->sums;
    const int64_t dims = w->z->value_dims;
    const float *ms = more + w->rows * dims, *ls = ms + w->rows;
    for (int i = 0; i < w->rows; i++, more += dims) {
        const float m = ms[i] > t->m[i] ? ms[i] : t->m[i], used = m == -INFINITY ? 0 : m;
        const float before = power_of_two(splat((t->m[i] - used) * base))[0];
        const float now = power_of_two(splat((ms[i] - used) * base))[0];
        for (int64_t n = 0; n < dims; n += LANES)
            store(t->out + i * dims + n, load(t->out + i * dims + n) * before + load(more + n) * now);
        t->m[i] = m, t->l[i] = t->l[i] * before + ls[i] * now;
    }
}

static void merge_item(void *context, int64_t item, float *memory) {
    const parted *all = context;
    group *g = all->g;
    state t;
    packed own;
    forward_memory(&g->z, memory, &t, &own);
    int64_t n = item ? all->ends[item - 1] : 0;
    walk w = walk_of_part(g, &all->parts[n]);
    begin(&w, &t, 0);
    for (; n < all->ends[item]; n++)
        add_part(&w, &t, &all->parts[n]);
    if (!finish(&w, &t))
        atomic_store(&g->fault, NOT_FINITE);
}

/* Computes rows part by part. Returns a `fault`. */
static int forward_parts(parted *all, int64_t rows, int64_t count, int64_t floats) {
    group *g = all->g;
    int64_t size = 0;
    all->parts = malloc(count * sizeof(part));
    if (!all->parts)
        return NO_MEMORY;
    find_parts(all, rows, all->parts);
    for (int64_t n = 0; n < count; n++)
        size += rounded_up(all->parts[n].r->count * g->c->fold * (g->z.value_dims + 2), LANES);
    float *sums = aligned(size * 4), *next = sums;
    for (int64_t n = 0; sums && n < count; n++) {
        all->parts[n].sums = next;
        next += rounded_up(all->parts[n].r->count * g->c->fold * (g->z.value_dims + 2), LANES);
    }
    int failed = sums ? for_each(part_item, all, count, floats, g->threads) : NO_MEMORY;
    failed = failed ? failed : for_each(merge_item, all, rows, floats, 1);
    free(sums), free(all->parts);
    return failed;
}

static int forward_group(group *g) {
    state t;
    packed own;
    int64_t ends[MOST_PARTS / 2];
    const int64_t rows = count_rows(g), floats = forward_memory(&g->z, NULL, &t, &own);
    parted all = {.g = g, .ends = ends};
    int64_t count = rows;
    if (rows && rows <= MOST_PARTS / 2 && !g->c->segments) {
        all.longest = longest_part(g, rows);
        count = find_parts(&all, rows, NULL);
    }
    int failed = count > rows ? forward_parts(&all, rows, count, floats)
                              : for_each(forward_item, g, rows, floats, g->threads);
    return failed ? failed : atomic_load(&g->fault);
}

/* The output and the log-sum-exp. Returns a `fault`. */
int maskdsl_forward(const call *c) {
    return in_groups(c, 0, forward_group);
}

/* Backward */

/* What a row keeps: words and floats of queries and of their gradients, scores, their gradients, and sums of dQ. */
typedef struct {
    float *q, *q_rows, *grad, *grad_rows, *s, *ds, *dq;
    float norm[ROW], delta[ROW];
} back_state;

/* A row as floats, padded. */
static void load_padded(const walk *w, float *to, const tensor *t, int i, int64_t dim, int64_t dims) {
    load_row(to, row_at(w, t, i), dim, t->type);
    memset(to + dim, 0, (dims - dim) * 4);
}

/* Loads queries and gradients. Returns whether their log-sum-exps are small enough to subtract. */
static int begin_backward(const walk *w, back_state *t) {
    const call *c = w->c;
    const sizes *z = w->z;
    float *out = t->ds;
    int fits = 1;
    if (t->q != t->q_rows)
        load_queries(w, t->q, &c->q, c->dim, z->steps);
    if (t->grad != t->grad_rows)
        load_queries(w, t->grad, &c->grad_out, c->value_dim, z->value_steps);
    memset(t->dq, 0, w->rows * z->dims * 4);
    for (int i = 0; i < w->rows; i++) {
        const int64_t at = scalar_at(w, i);
        float *grad = t->grad_rows + i * z->value_dims;
        load_padded(w, t->q_rows + i * z->dims, &c->q, i, c->dim, z->dims);
        load_padded(w, grad, &c->grad_out, i, c->value_dim, z->value_dims);
        load_padded(w, out, &c->out, i, c->value_dim, z->value_dims);
        vec total = {};
        for (int64_t n = 0; n < z->value_dims; n += LANES)
            total += load(out + n) * load(grad + n);
        t->delta[i] = sum(total) - c->grad_lse[at];
        t->norm[i] = c->lse[at] * base_of(c);
        if (c->lse[at] == -INFINITY) { /* a query without keys has no gradient, whatever comes back */
            t->delta[i] = 0, t->norm[i] = INFINITY;
            memset(grad, 0, z->value_dims * 4), memset(t->grad + i * z->value_steps, 0, z->value_steps * 4);
        } else if (!(fabsf(c->lse[at]) <= LARGEST))
            fits = 0;
        float factor = c->factor ? c->factor[at] : 1;
        if (factor != 1) {
            for (int64_t n = 0; n < z->value_dims; n += LANES)
                store(grad + n, load(grad + n) * factor);
            if (z->pairs)
                store_row(t->grad + i * z->value_steps, grad, c->value_dim, c->grad_out.type);
            else if (t->grad != t->grad_rows)
                memcpy(t->grad + i * z->value_steps, grad, c->value_dim * 4);
        }
    }
    return fits;
}

/* hole: gradients */
/* A probability takes the place of a product, and the gradient of the product that of the probability's gradient. */
INLINE void pair_gradients(const walk *w, const chunk *at, int j, int i, float base, const back_state *t, vec *s,
                           vec *ds) {
    const call *c = w->c;
    vec derivatives[DERIVATIVES];
    const vec x = final_score(w, at, j, i, *s, derivatives), p = power_of_two((x - t->norm[i]) * base);
    const vec grad = p * (*ds - t->delta[i]);
    *s = p;
    *ds = grad * derivatives[0];
    if (c->grad_bias && at->bias[j]) {
        const int64_t head = ((int64_t)w->b * c->heads + w->heads[i]) * c->biases + at->bias_number[j];
        float *sums = c->grad_bias + (head * c->height + w->r->word + w->queries[i]) * LANES;
        store(sums, load(sums) + grad);
    }
}
/* end */

/* Probabilities take the places of scores, and gradients of products those of the gradients of probabilities. */
static void score_gradients(const walk *w, const chunk *at, back_state *t) {
    const float base = late_base_of(w->c);
    for (int i = 0; i < w->rows; i++)
        for (int j = 0; j < at->count; j++) {
            vec *s = (vec *)(t->s + i * WIDTH + j * LANES), *ds = (vec *)(t->ds + i * WIDTH + j * LANES);
            if (at->spans[j].first <= i && i < at->spans[j].end)
                pair_gradients(w, at, j, i, base, t, s, ds);
            else
                *s = *ds = (vec){};
        }
}

/* Scales dQ of a row's queries, and writes it. */
static void finish_queries(group *g, const walk *w, back_state *t) {
    const call *c = g->c;
    const sizes *z = &g->z;
    vec total = {};
    for (int i = 0; i < w->rows; i++) {
        float *dq = t->dq + i * z->dims;
        for (int64_t n = 0; n < z->dims; n += LANES) {
            vec x = load(dq + n) * c->scale;
            total += x * 0.0f;
            store(dq + n, x);
        }
        store_row(row_at(w, &c->grad_q, i), dq, c->dim, c->grad_q.type);
    }
    if (sum(total) != 0)
        atomic_store(&g->fault, NOT_FINITE);
}

/* Sums dQ of a row up in `t`, and adds to dK and dV. */
static void backward_row(group *g, int64_t unit, walk *w, back_state *t, float *dk, float *dv) {
    const sizes *z = &g->z;
    const packed *p = &g->of_unit[unit];
    chunk at;
    if (!begin_backward(w, t))
        atomic_store(&g->fault, NOT_FINITE);
    while (next_chunk(w, &at)) {
        const float *keys[CHUNK], *values[CHUNK], *rows[CHUNK];
        for (int j = 0; j < at.count; j++) {
            keys[j] = p->keys + at.panels[j] * z->steps * LANES;
            values[j] = p->value_panels + at.panels[j] * z->value_steps * LANES;
            rows[j] = p->key_rows + at.panels[j] * z->dims * LANES;
        }
        scores_by_type(t->s, t->q, w->rows, z->steps, keys, at.spans, at.count, z->pairs);
        scores_by_type(t->ds, t->grad, w->rows, z->value_steps, values, at.spans, at.count, z->pairs);
        score_gradients(w, &at, t);
        for (int j = 0; j < at.count; j++) {
            const int first = at.spans[j].first, length = at.spans[j].end - first;
            const float *queries = t->q_rows + first * z->dims, *grads = t->grad_rows + first * z->value_dims;
            const int64_t from = first * WIDTH + j * LANES;
            factors f = {t->s + from, 1, WIDTH, &grads, NULL, z->value_dims, 1, length};
            add_by_type(dv + at.panels[j] * z->value_dims * LANES, z->value_dims, LANES, z->value_dims, &f, 0);
            f = (factors){t->ds + from, 1, WIDTH, &queries, NULL, z->dims, 1, length};
            add_by_type(dk + at.panels[j] * z->dims * LANES, z->dims, LANES, z->dims, &f, 0);
        }
        factors f = {t->ds, WIDTH, 1, rows, at.spans, z->dims, at.count, LANES};
        add_by_type(t->dq, z->dims, w->rows, z->dims, &f, 0);
    }
}

static void backward_segment(group *g, int64_t unit, int head, const segment *s, back_state *t, float *dk, float *dv) {
    const call *c = g->c;
    const int64_t dims = g->z.dims, all = (int64_t)s->count * c->fold;
    const int b = (g->first + unit) / c->key_heads;
    float *kept = aligned(all * dims * 4);
    int32_t members[ROW];
    if (!kept) {
        atomic_store(&g->fault, NO_MEMORY);
        return;
    }
    memset(kept, 0, all * dims * 4);
    for (const row *r = c->rows + s->row; r < c->rows + s->row + s->rows; r++) {
        walk w = walk_of_members(g, b, head, s, c->members + r->first, r->count, r);
        backward_row(g, unit, &w, t, dk, dv);
        for (int i = 0; i < w.rows; i++)
            for (int64_t n = 0; n < dims; n += LANES) {
                float *of = kept + w.members[i] * dims + n;
                store(of, load(of) + load(t->dq + i * dims + n));
            }
    }
    for (int64_t n = 0; n < all; n += ROW) {
        walk w = walk_on(g, b, head, s, n, members);
        memcpy(t->dq, kept + n * dims, w.rows * dims * 4);
        finish_queries(g, &w, t);
    }
    free(kept);
}

static int64_t backward_memory(const sizes *z, float *memory, back_state *t) {
    float **arrays[] = {&t->q, &t->q_rows, &t->grad, &t->grad_rows, &t->s, &t->ds, &t->dq};
    int64_t floats[] = {ROW * z->steps, ROW * z->dims, ROW * z->value_steps, ROW * z->value_dims,
                        ROW * WIDTH, ROW * WIDTH + z->value_dims, ROW * z->dims};
    const int64_t total = divide(memory, arrays, floats, 7);
    if (z->steps == z->dims) /* words are floats, and rows are whole vectors */
        t->q = t->q_rows;
    if (z->value_steps == z->value_dims)
        t->grad = t->grad_rows;
    return total;
}

/* Of one part of a unit's rows: dQ, and the sums of dK and dV. */
static void backward_item(void *context, int64_t item, float *memory) {
    group *g = context;
    const call *c = g->c;
    const sizes *z = &g->z;
    const int64_t unit = item / g->parts, per_part = z->panels * LANES * (z->dims + z->value_dims);
    float *dk = g->of_unit[unit].sums + item % g->parts * per_part, *dv = dk + z->panels * LANES * z->dims;
    memset(dk, 0, per_part * 4);
    back_state t;
    backward_memory(z, memory, &t);
    const int group_heads = c->heads / c->key_heads, first = (g->first + unit) % c->key_heads * group_heads;
    for (int head = first; head < first + group_heads; head += c->fold) {
        int64_t count;
        const int b = (g->first + unit) / c->key_heads;
        const int64_t begin = rows_of(c, b, head, &count);
        for (int64_t n = begin + item % g->parts; n < begin + count; n += g->parts) {
            if (c->segments) {
                backward_segment(g, unit, head, c->segments + n, &t, dk, dv);
                continue;
            }
            walk w = walk_of(g, b, head, c->rows + n);
            backward_row(g, unit, &w, &t, dk, dv);
            finish_queries(g, &w, &t);
        }
    }
}

/* Adds the sums of the parts of a unit for one panel, always in the same order, and writes dK and dV. */
static void finish_item(void *context, int64_t item, float *memory) {
    (void)memory;
    group *g = context;
    const call *c = g->c;
    const sizes *z = &g->z;
    const int64_t unit = item / z->panels, panel = item % z->panels;
    const int64_t per_part = z->panels * LANES * (z->dims + z->value_dims);
    const int b = (g->first + unit) / c->key_heads, key_head = (g->first + unit) % c->key_heads;
    int64_t first;
    const int count = panel_keys(z, b, panel, &first);
    float *dk = g->of_unit[unit].sums + panel * LANES * z->dims;
    float *dv = g->of_unit[unit].sums + LANES * (z->panels * z->dims + panel * z->value_dims);
    vec total = {};
    for (int lane = 0; lane < count; lane++, dk += z->dims, dv += z->value_dims) {
        for (int64_t n = 0; n < z->dims; n += LANES) {
            vec x = load(dk + n);
            for (int64_t part = 1; part < g->parts; part++)
                x += load(dk + part * per_part + n);
            store(dk + n, x * c->scale);
            total += x * 0.0f;
        }
        for (int64_t n = 0; n < z->value_dims; n += LANES) {
            vec x = load(dv + n);
            for (int64_t part = 1; part < g->parts; part++)
                x += load(dv + part * per_part + n);
            store(dv + n, x);
            total += x * 0.0f;
        }
        store_row((char *)key_row(z, &c->grad_k, b, key_head, first + lane), dk, c->dim, c->grad_k.type);
        store_row((char *)key_row(z, &c->grad_v, b, key_head, first + lane), dv, c->value_dim, c->grad_v.type);
    }
    if (sum(total) != 0)
        atomic_store(&g->fault, NOT_FINITE);
}

static int backward_group(group *g) {
    const sizes *z = &g->z;
    back_state t;
    int failed = for_each(backward_item, g, g->units * g->parts, backward_memory(z, NULL, &t), g->threads);
    if (!failed)
        failed = for_each(finish_item, g, g->units * z->panels, 0, g->threads);
    return failed ? failed : atomic_load(&g->fault);
}

/* dQ, dK, dV and the gradients of biases, from what `maskdsl_forward` gave. Returns a `fault`. */
int maskdsl_backward(const call *c) {
    return in_groups(c, 1, backward_group);
}

/* The version of `call`. */
int maskdsl_native_version(void) { return 1; }
