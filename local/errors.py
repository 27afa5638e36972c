from ops.errors import OpsError


class LocalError(OpsError):
    """The local cloud cannot do what was asked. The message says why and what to do, in one line."""
