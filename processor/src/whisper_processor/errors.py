"""The two kinds of error a job can meet, and the two ways a job leaves the worker unfinished."""


class PermanentError(Exception):
    """Trying again cannot help. The message is written for a teacher's support desk."""


class TransientError(Exception):
    """Trying again later may help: a service is away, or memory ran out."""


class LeaseLost(Exception):
    """Another worker has taken the job over; its result counts, and its word on the message."""


class Drained(Exception):
    """The worker must leave before the job can end; the message goes back to the queue."""
