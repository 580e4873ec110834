/* What scores are multiplied by before exponentials of base two. */
INLINE float base_of(const call *c) {
    (void)c;
    return 1;
}

/* The scores of one query and the keys of a panel, from products, and their derivatives: by scaled products, and by the
   terms of the query, of the keys and of the pairs. */
INLINE vec score_of(const walk *w, const chunk *at, int j, int i, vec s, vec *derivatives) {
    s = s * w->c->scale;
    /* hole: score */
    derivatives[0] = splat(1);
    return s;
    /* end */
}
