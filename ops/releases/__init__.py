"""Releases of the worker: build them, store them, set the wanted one and roll it out."""
