"""E54x: errors of the page. Raised by `view.page` and by `maskdsl view`."""

from maskdsl.base.diagnostics import Diagnostic


class MapTooLarge(Diagnostic):
    code = "E540"
    message = "the map of `{pattern}` is too large for a page: {count:,} {what}, where {limit:,} fit"
    help = "use larger tiles (--block 256), or a shorter length that shows the same pattern (n=65536)"

    pattern: str
    count: int
    what: str
    limit: int


class PageTooLarge(Diagnostic):
    code = "E541"
    message = "the page would have {size} MB, and at most {limit} MB are allowed"
    help = "ask for one order (--order declared), one tile size (--block 128), one head (--head 0) or a shorter length"

    size: int
    limit: int


class NoPort(Diagnostic):
    code = "E542"
    message = "cannot serve on port {port}: {reason}"
    help = "leave --port out to take any free port"

    port: int
    reason: str
