"""Keeps the appliance on the wanted release: at boot, before the worker starts, and on request.

It runs from the last release that passed its check, never from the one it installs.
"""
