"""Releases on their way to a booted appliance, with everything that can go wrong."""
