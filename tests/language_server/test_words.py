"""What editors say about words is said about all of them, and of no others."""

import re
from pathlib import Path

from maskdsl.bind.context.call_arguments import TYPES
from maskdsl.bind.expression.functions import FUNCTIONS
from maskdsl.bind.expression.names import RESERVED
from maskdsl.bind.expression.pools import KINDS
from maskdsl.bind.route.route_statements import SELECTORS
from maskdsl.ir.mask import Normalize
from maskdsl.ir.routes import PoolFact
from maskdsl.syntax.build import QUANTIFIERS
from maskdsl.syntax.mistakes import DECLARATION_WORDS, RESERVED_WORDS, STATEMENT_WORDS
from maskdsl.view.language_server import words

GRAMMAR = Path("grammar/attn.lark").read_text()


def test_words_of_the_grammar():
    assert set(re.findall(r'"([A-Za-z]+)"', GRAMMAR)) == set(words.KEYWORDS)
    assert (set(words.DECLARATIONS), set(words.STATEMENTS)) == (DECLARATION_WORDS, STATEMENT_WORDS)
    assert set(words.OPERATORS) == RESERVED_WORDS | {"auto", "always"}


def test_names_of_the_language():
    assert (set(words.FUNCTIONS), set(words.SELECTORS)) == (set(FUNCTIONS), set(SELECTORS))
    assert set(KINDS) | {"min"} == set(words.POOLINGS) and set(words.QUANTIFIERS) == set(QUANTIFIERS)
    assert set(words.TYPES) == set(TYPES) and set(words.RESERVED) == RESERVED | {"s", "v", "inf"}
    assert {name: set(words.ARGUMENTS[name]) for name in ("topk", "topp", "above")} == {
        name: set(SELECTORS[name]) for name in ("topk", "topp", "above")
    }
    assert set(words.ARGUMENTS) == {*words.POOLINGS, "softmax", "topk", "topp", "above"}
    assert set(words.OF_POOLS) == set(PoolFact) and set(words.NORMALIZATIONS) == {
        str(each).split()[0] for each in Normalize
    }
