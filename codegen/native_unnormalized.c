/* The probabilities of a chunk take the places of its products: they are the scores. */
static void online(const walk *w, const chunk *at, state *t) {
    vec derivatives[DERIVATIVES];
    for (int i = 0; i < w->rows; i++) {
        t->m[i] = 0, t->l[i] = 1;
        for (int j = 0; j < at->count; j++) {
            vec *here = (vec *)(t->s + i * WIDTH + j * LANES);
            const int attends = at->spans[j].first <= i && i < at->spans[j].end;
            *here = attends ? final_score(w, at, j, i, *here, derivatives) : (vec){};
            /* hole: weight */
            /* end */
            if (w->z->pairs)
                *(loose_halves *)(t->halves + i * WIDTH / 2 + j * LANES / 2) = to_bfloat16(*here);
        }
    }
}

