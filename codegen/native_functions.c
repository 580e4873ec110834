/* Functions that filled texts of `native.c` call: each has those that it needs. Blank lines stand between functions. */

/* The least and the greatest are NaN where one is. */
INLINE vec least(vec a, vec b) { return choose((a < b) | (a != a), a, b); }

INLINE vec greatest(vec a, vec b) { return choose((a > b) | (a != a), a, b); }

INLINE vec absolute(vec x) { return (vec)((ints)x & 0x7fffffff); }

INLINE vec square_root(vec x) {
#if defined(__AVX512F__)
    return (vec)_mm512_sqrt_ps((__m512)x);
#else
    UNROLL for (int lane = 0; lane < LANES; lane++)
        x[lane] = sqrtf(x[lane]);
    return x;
#endif
}

/* To 3 units in the last place; 0 and infinity beyond the range of floats. NaN stays NaN. */
INLINE vec exponential(vec x) {
    const float shift = 12582912.0f; /* 1.5 * 2 ** 23: what is added to it is rounded */
    x = choose(x < -104.0f, splat(-104.0f), choose(x > 89.0f, splat(89.0f), x));
    const vec rounded = (x * LOG2_E + shift) - shift, rest = (x - rounded * 0.693359375f) + rounded * 2.12194440e-4f;
    const ints exponent = __builtin_convertvector(choose(x == x, rounded, (vec){}), ints), half = exponent >> 1;
    return power_of_two(rest * LOG2_E) * (vec)((half + 127) << 23) * (vec)((exponent - half + 127) << 23);
}

/* -inf of 0, NaN of negative numbers. */
INLINE vec natural_logarithm(vec x) {
    const ints is_small = x < 0x1p-126f;
    const vec here = logarithm(choose(is_small, x * 0x1p24f, x)) - choose(is_small, splat(16.635532f), (vec){});
    const vec outside = choose(x == 0.0f, splat(-INFINITY), choose(x < 0.0f, splat(NAN), x));
    return choose((x > 0.0f) & (x < INFINITY), here, outside);
}

INLINE vec sigmoid(vec x) { return 1.0f / (1.0f + exponential(-x)); }

/* x ** n, by squaring. */
INLINE vec whole_power(vec x, int n) {
    vec result = splat(1);
    for (int left = n < 0 ? -n : n; left; left >>= 1, x *= x)
        result = left & 1 ? result * x : result;
    return n < 0 ? 1.0f / result : result;
}

INLINE vec power(vec x, float n) {
    for (int lane = 0; lane < LANES; lane++)
        x[lane] = powf(x[lane], n);
    return x;
}

INLINE int64_t head_number(const walk *w, int i) { return (int64_t)w->b * w->c->heads + w->heads[i]; }

/* Where the terms of a query begin. */
INLINE int64_t query_term_at(const walk *w, int i, int n) {
    return (head_number(w, i) * w->c->queries + w->numbers[i]) * QUERY_TERMS + n;
}

INLINE int64_t key_term_at(const walk *w, const chunk *at, int j, int i, int n) {
    return (head_number(w, i) * KEY_TERMS + n) * ((int64_t)w->c->keys + LANES) + at->keys[j];
}

INLINE vec query_term(const walk *w, const chunk *at, int j, int i, int n) {
    (void)at, (void)j;
    return splat(w->c->query_terms[query_term_at(w, i, n)]);
}

INLINE vec key_term(const walk *w, const chunk *at, int j, int i, int n) {
    return load(w->c->key_terms + key_term_at(w, at, j, i, n));
}

INLINE vec pair_term(const walk *w, const chunk *at, int j, int i, int n) {
    const int64_t row = (int64_t)n * w->c->height + w->queries[i];
    return load(at->bias[j] + w->heads[i] * w->c->bias_head + row * LANES);
}

INLINE void add_to_query_term(const walk *w, const chunk *at, int j, int i, int n, vec grad) {
    (void)at, (void)j;
    float *sums = w->c->grad_query_terms;
    if (sums)
        sums += query_term_at(w, i, n) * LANES, store(sums, load(sums) + grad);
}

INLINE void add_to_key_term(const walk *w, const chunk *at, int j, int i, int n, vec grad) {
    float *sums = w->c->grad_key_terms;
    if (sums)
        sums += key_term_at(w, at, j, i, n), store(sums, load(sums) + grad);
}

INLINE void add_to_pair_term(const walk *w, const chunk *at, int j, int i, int n, vec grad) {
    const call *c = w->c;
    const int64_t panel = (head_number(w, i) * c->biases + at->bias_number[j]) * PAIR_TERMS + n;
    float *sums = c->grad_bias;
    if (sums)
        sums += (panel * c->height + w->r->word + w->queries[i]) * LANES, store(sums, load(sums) + grad);
}
