"""The autoscaler function: packed, proven by a dry run, made live, rolled back."""
