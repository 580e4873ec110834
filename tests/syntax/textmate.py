"""TextMate grammars as editors read them: line by line, the earliest match first. As much of them as ours uses."""

import re


def scopes(grammar: dict, text: str):
    """The innermost scope of every character; empty where a grammar says nothing."""
    found, opened = [""] * len(text), None
    start = 0
    for line in text.splitlines(keepends=True):
        opened = _line(grammar, line, start, found, opened)
        start += len(line)
    return found


def _line(grammar, line, start, found, opened):
    at = 0
    while at <= len(line):
        rules = opened["patterns"] if opened else grammar["patterns"]
        matches = [
            (match.start(), number, match, rule)
            for number, rule in enumerate(_flat(grammar, rules))
            if (match := _match(rule, line, at))
        ]
        if opened and (end := re.compile(opened["end"], re.M).search(line, at)):
            matches.append((end.start(), -1, end, None))
        if opened:
            until = min(matches, key=lambda each: each[:2])[0] if matches else len(line)
            _colour(found, start + at, start + until, opened["name"])
        if not matches:
            return opened
        _, _, match, rule = min(matches, key=lambda each: each[:2])
        _colour(found, start + match.start(), start + match.end(), (rule or opened).get("name", ""))
        for number, capture in (rule or {}).get("captures", {}).items():
            _colour(found, start + match.start(int(number)), start + match.end(int(number)), capture["name"])
        opened = None if rule is None else rule if "begin" in rule else opened
        at = match.end() if match.end() > match.start() or rule is None else match.end() + 1
        if rule is None and match.end() == match.start():
            return opened
    return opened


def _match(rule, line, at):
    return re.compile(rule.get("match") or rule["begin"], re.M).search(line, at)


def _flat(grammar, rules):
    for rule in rules:
        if "include" in rule:
            named = grammar["repository"][rule["include"][1:]]
            yield from _flat(grammar, [named] if "begin" in named or "match" in named else named["patterns"])
        else:
            yield rule


def _colour(found, start, end, name):
    found[start:end] = [name] * (end - start)
