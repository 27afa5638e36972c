class OpsError(Exception):
    """The operator asked for what cannot be done; the message says why and what to do, in one line."""
