"""Mutants of the kernels in C: see `mutants.py`. They need a C compiler that works.

What only other processors compile has none: `tests/native/test_portability.py` compares it.
"""

from tests.independent.mutant import Mutant, of

KERNEL = "codegen/native.c"
WHOLE = of("native/test_kernel", "test_it_agrees_with_the_reference")
SOME = of("native/test_partial_calls", "test_some_queries_agree_with_the_reference")
CHOSEN = of("native/test_chosen_rows", "test_against_the_reference")
FORMS = of("native/test_scores", "test_it_agrees_with_the_reference")
DRAWN = of("native/test_portability", "test_results_are_those_of_float64")

NATIVE_MUTANTS = (
    Mutant(
        "blocks of whole panels",
        KERNEL,
        "*first = block * z->c->key_block + within;",
        "*first = block * z->block_panels * LANES + within;",
        DRAWN,
    ),
    Mutant(
        "lengths of the first entry",
        KERNEL,
        "if (z->c->lengths && end > z->c->lengths[b])",
        "if (z->c->lengths && end > z->c->lengths[0])",
        SOME,
    ),
    Mutant(
        "keys of missing pages",
        KERNEL,
        "(first + lane) / c->page] < 0)",
        "(first + lane) / c->page] < -1)",
        of("native/test_partial_calls", "test_keys_of_missing_pages"),
    ),
    Mutant(
        "pages of the first entry",
        KERNEL,
        "entry = c->pages[b * c->pages_batch + number / c->page];",
        "entry = c->pages[number / c->page];",
        SOME,
    ),
    Mutant("lanes of masks without keys", KERNEL, "at->words[j][query] & at->lanes[j]", "at->words[j][query]", SOME),
    Mutant(
        "sums keep the scale of another maximum",
        KERNEL,
        "load(t->l + first) * factor + sums_of(each)",
        "load(t->l + first) + sums_of(each)",
        WHOLE,
    ),
    Mutant(
        "outputs keep the scale of another maximum",
        KERNEL,
        "if (before[i] != m[i] && before[i] != -INFINITY)",
        "if (before[i] < m[i] - 1 && before[i] != -INFINITY)",
        WHOLE,
    ),
    Mutant("quotients by empty sums", KERNEL, "choose(l == 0, (vec){}, 1 / l)", "1 / l", WHOLE),
    Mutant(
        "log-sum-exps of empty rows", KERNEL, "choose(l == 0, splat(-INFINITY), m", "choose(l == 0, splat(0), m", WHOLE
    ),
    Mutant("sinks beyond float32", KERNEL, "|| c->sinks ?", "?", of("native/test_sinks", "test_the_least_sink")),
    Mutant("slopes of soft caps", KERNEL, "derivatives[0] = 1 - t * t;", "derivatives[0] = 1 - t;", WHOLE),
    Mutant("biases of the first query", KERNEL, "+ (int64_t)w->queries[i] * LANES : NULL", ": NULL", WHOLE),
    Mutant("biases of the first head", KERNEL, "w->heads[i] * c->bias_head", "0 * c->bias_head", WHOLE),
    Mutant("gradients of biases by one row", KERNEL, "store(sums, load(sums) + grad);", "store(sums, grad);", WHOLE),
    Mutant("one mask for all panels of a run", KERNEL, ": here->mask + n", ": here->mask", DRAWN),
    Mutant("shared masks taken one by one", KERNEL, "? -2 - here->mask", "? -2 - here->mask + n", CHOSEN),
    Mutant(
        "gradients of empty rows",
        KERNEL,
        "t->delta[i] = 0, t->norm[i] = INFINITY;",
        "t->norm[i] = 0;",
        of("native/test_kernel", "test_nothing_flows_from_empty_rows"),
    ),
    Mutant("gradients of log-sum-exps left out", KERNEL, "sum(total) - c->grad_lse[at]", "sum(total)", WHOLE),
    Mutant("dQ without the scale", KERNEL, "vec x = load(dq + n) * c->scale;", "vec x = load(dq + n);", WHOLE),
    Mutant(
        "dK of the first thread alone",
        KERNEL,
        "x += load(dk + part * per_part + n);",
        "x += 0;",
        of("native/test_threads", "test_results_do_not_depend_on_threads"),
    ),
    Mutant(
        "members of the first head", KERNEL, "w.heads[i] = head + members[i] / s->count", "w.heads[i] = head", CHOSEN
    ),
    Mutant("sums of segments forgotten", KERNEL, "of[dims + 1] = t->l[i];", "of[dims + 1] = 0;", CHOSEN),
    Mutant("the order of the first head", KERNEL, "key_head * c->key_at_head", "0 * c->key_at_head", WHOLE),
    Mutant("panels of one row left out", KERNEL, "of->end > first;", "of->end > first + 1;", WHOLE),
    Mutant(
        "halves rounded away from zero",
        KERNEL,
        "((size + 0xfff + ((size >> 13) & 1)) >> 13)",
        "((size + 0x1000) >> 13)",
        of("native/test_kernel", "test_results_are_rounded_to_the_nearest"),
    ),
    Mutant(
        "log-sum-exps too coarse for gradients",
        KERNEL,
        "<= LARGEST",
        "<= 1e30f",
        of("native/test_kernel", "test_large_scores"),
    ),
    Mutant(
        "infinities taken for results",
        KERNEL,
        "return sum(total) == 0;",
        "return 1;",
        of("native/test_chosen_rows", "test_results_that_are_not_finite_are_those_of_tiles"),
    ),
    Mutant("derivatives where scores are -inf", "codegen/native_gradients.c", "x != -INFINITY;", "x == x;", FORMS),
    Mutant(
        "gradients of queries by one panel",
        "codegen/native_functions.c",
        "sums += query_term_at(w, i, n) * LANES, store(sums, load(sums) + grad);",
        "sums += query_term_at(w, i, n) * LANES, store(sums, grad);",
        FORMS,
    ),
    Mutant(
        "weights of probabilities of 0",
        "codegen/native_weights.c",
        "choose(p == 0.0f, p, p * weight",
        "(p * weight",
        FORMS,
    ),
    Mutant(
        "probabilities divided by the parts of a row",
        "maskdsl/emit/native_scores.py",
        '"sums": None if terms.normalizes else ["const vec l = splat(1), m = {};"],',
        '"sums": None,',
        of("native/test_scores", "test_parts_of_long_rows"),
    ),
)
