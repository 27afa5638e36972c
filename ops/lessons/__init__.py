"""Lessons: submitted, followed, read, and redriven from the dead-letter queue."""
