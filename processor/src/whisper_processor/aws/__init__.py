"""AWS as the worker uses it: queue, bucket, instance, metrics."""
