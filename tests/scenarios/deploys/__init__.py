"""Releases and settings on their way to a booted appliance, with what can go wrong: `make rehearse-deploy`.

The cases are in `test_deploys`, in the order in which they run. Each is an operator's verb and a lesson. The
lesson must be transcribed once, and by the right release.
"""
