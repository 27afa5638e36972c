"""The backend's tables, and the guard that writes each lesson exactly once."""
