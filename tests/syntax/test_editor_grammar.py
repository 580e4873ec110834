"""The grammar for editors knows every word and mark of the grammar proper."""

import json
import re
from importlib.resources import files

GRAMMAR = files("maskdsl.grammar")
RULES = json.loads(GRAMMAR.joinpath("attn.tmLanguage.json").read_text())


def rules(node):
    """Every rule of the tree."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from rules(child)


def expressions():
    return [rule[key] for rule in rules(RULES) for key in ("match", "begin", "end") if isinstance(rule.get(key), str)]


def literals():
    """The texts in quotes of the grammar, without its comments and regular expressions."""
    text = re.sub(r"(?m)^\s*//.*$|^[A-Z.0-9]+: /.*$", "", GRAMMAR.joinpath("attn.lark").read_text())
    return set(re.findall(r'"([^"\s]+)"', text))


def test_every_expression_can_be_read():
    for expression in expressions():
        re.compile(expression)


def test_every_rule_named_is_there():
    included = {rule["include"] for rule in rules(RULES) if "include" in rule}
    assert included == {f"#{name}" for name in RULES["repository"]}


def test_every_word_and_operator_is_coloured():
    brackets = set("(){}[],:.")
    words = {each for each in literals() if each not in brackets}
    assert {"attend", "where", "++", "->", "..", "True", "//"} <= words
    for word in words:
        sample = {"use": 'use "x"', "auto": "order auto"}.get(word, f"{word} name")
        start = sample if word == "auto" else word
        assert any(
            found and found[0].startswith(start) for found in (re.match(each, sample) for each in expressions())
        ), word


def test_a_line_is_coloured():
    scopes = {}
    for rule in rules(RULES):
        if isinstance(rule.get("match"), str):
            for match in re.finditer(rule["match"], "pattern p(n = 4) { attend q.x - k.x < 3 }"):
                scopes.setdefault(match[0], []).append(rule.get("name") or rule["captures"]["1"]["name"])
    assert scopes["pattern p"] == ["keyword.declaration.attn"]
    assert scopes["attend"] == ["keyword.control.attn"]
    assert scopes["q.x"] == ["variable.language.attn"]
    assert scopes["4"] == ["constant.numeric.integer.attn"]
