"""The operator's verbs: arguments, screens and error text."""
