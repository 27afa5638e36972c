"""Keeps the appliance on the release that is wanted: at its boot, before the worker starts, and when told to.

It runs from the last release that passed its check, never from the one it installs.
"""
