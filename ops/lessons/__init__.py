"""Lessons: submit them, follow them, read them, and redrive them from the dead-letter queue."""
