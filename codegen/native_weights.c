/* The weights of one query and the keys of a panel, and their derivatives by terms, with the numbers of score_of. */
INLINE vec weight_of(const walk *w, const chunk *at, int j, int i, vec *derivatives) {
    /* hole: weight */
    return splat(1);
    /* end */
}

/* Probabilities times weights. Where a probability is 0, its weight has no say. */
INLINE vec weighted(const walk *w, const chunk *at, int j, int i, vec p) {
    vec derivatives[DERIVATIVES];
    return choose(p == 0.0f, p, p * weight_of(w, at, j, i, derivatives));
}
