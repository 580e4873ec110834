"""E54x: what can be wrong with a page. Raised by `page` and by `maskdsl view`."""

from maskdsl.base.diagnostics import Diagnostic


class MapTooLarge(Diagnostic):
    code = "E540"
    message = "the map of `{pattern}` is too large for a page: {count:,} {what}, of {limit:,} at most"
    help = "larger tiles are fewer (--block 256), and a shorter length shows the same pattern (n=65536)"

    pattern: str
    count: int
    what: str
    limit: int


class PageTooLarge(Diagnostic):
    code = "E541"
    message = "the page would have {size} MB, of {limit} MB at most"
    help = "one order (--order declared), one size of tiles (--block 128), one head (--head 0) or a shorter length"

    size: int
    limit: int


class NoPort(Diagnostic):
    code = "E542"
    message = "port {port} cannot be served: {reason}"
    help = "without --port any free one is taken"

    port: int
    reason: str
