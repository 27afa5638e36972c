"""The backend's tables, and the guard that writes each transcript exactly once."""
