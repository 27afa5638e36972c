"""The contracts between the worker, the autoscaler, the operator's verbs and the backend.

Each name and each format that more than one of them uses is defined here, once. The package uses the standard
library alone, because it travels in the worker's wheel and in the autoscaler function's zip.
"""
