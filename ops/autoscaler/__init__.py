"""Releases of the autoscaler function: packaged, tested with a dry run, made live, rolled back."""
