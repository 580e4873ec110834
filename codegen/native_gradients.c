/* A probability takes the place of a product, and the gradient of the product that of the probability's gradient. */
INLINE void pair_gradients(const walk *w, const chunk *at, int j, int i, float base, const back_state *t, vec *s,
                           vec *ds) {
    vec derivatives[DERIVATIVES];
    const vec x = final_score(w, at, j, i, *s, derivatives);
    /* hole: probability */
    const vec p = power_of_two((x - t->norm[i]) * base);
    const ints counts = x != -INFINITY; /* others have no gradient, whatever their derivatives are */
    /* end */
    /* hole: weight */
    const vec of_probability = *ds;
    *s = p;
    /* end */
    /* hole: gradient */
    const vec grad = p * (of_probability - t->delta[i]);
    /* end */
    /* hole: product */
    *ds = choose(counts, grad * derivatives[0], (vec){});
    /* end */
    /* hole: terms */
    /* end */
}
