"""The two kinds of error a job can meet, and the two ways an unfinished job leaves the worker."""


class PermanentError(Exception):
    """A retry cannot help. The text is written for the people who support teachers."""


class TransientError(Exception):
    """A later retry may help: a service is unavailable, or memory ran out."""


class LeaseLost(Exception):
    """Another worker has taken the job over. The result, and the message, are that worker's."""


class Drained(Exception):
    """The worker must leave before the job can finish. The message goes back to the queue."""
