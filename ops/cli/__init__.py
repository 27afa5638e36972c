"""The operator's verbs: their arguments, output and error messages."""
