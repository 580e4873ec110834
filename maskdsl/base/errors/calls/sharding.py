"""E467 to E469: errors of plans for many processes, where they are carried out."""

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


class NotSharded(Diagnostic):
    code = "E468"
    message = "`{pattern}` cannot be computed by several processes: {reason}"
    label = "this pattern"
    help = "{advice}"

    pattern: str
    reason: str
    advice: str


class NotOfPlan(Diagnostic):
    code = "E469"
    message = "{what}, but the plan has {planned}"
    help = "{advice}"

    what: str
    planned: str
    advice: str
