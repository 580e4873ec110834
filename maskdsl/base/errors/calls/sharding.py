"""E467 to E469, E475 to E477 and E479: errors of plans for many processes and of shards, where they are carried out."""

from maskdsl.base.diagnostics import Diagnostic


class OtherProcesses(Diagnostic):
    code = "E467"
    message = "the plan is for {ranks} processes, but {found}"
    help = (
        "plan for as many processes as the group has: mask.shard({size}); of a mesh of several dimensions, take one:"
        ' plan.on(mesh["cp"])'
    )

    ranks: int
    found: str
    size: int


class NotDecoded(Diagnostic):
    code = "E468"
    message = "`{pattern}` cannot be decoded over a cache that processes share: {reason}"
    label = "this pattern"
    help = "use tensor parallelism for it, which shares heads and no tokens"

    pattern: str
    reason: str


class NotOfPlan(Diagnostic):
    code = "E469"
    message = "{what}, but the plan has {planned}"
    help = "{advice}"

    what: str
    planned: str
    advice: str


class UnfitGroups(Diagnostic):
    code = "E475"
    message = "the scheme `{scheme}` does not fit {ranks} processes, {heads} heads and {key_heads} key heads"
    help = "the number of head groups divides those of processes and heads; it divides the key heads, or they divide it"

    scheme: str
    ranks: int
    heads: int
    key_heads: int


class OtherLayers(Diagnostic):
    code = "E476"
    message = (
        "layers that are planned together have the same tokens and heads, but `{pattern}` has others than `{other}`"
    )
    help = "bind all of them with the same lengths, heads and key heads"

    pattern: str
    other: str


class UnfitShards(Diagnostic):
    code = "E477"
    message = "`{name}` is a DTensor {how}"
    help = "{advice}"

    name: str
    how: str
    advice: str


class OtherCall(Diagnostic):
    code = "E479"
    message = "not all processes of the group make the same call: {how}"
    help = "{advice}"

    how: str
    advice: str
