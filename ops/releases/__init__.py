"""Releases of the worker: built, stored, wanted and rolled out."""
