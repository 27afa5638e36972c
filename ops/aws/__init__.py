"""AWS as the operator's verbs use it: one connection, stacks, commands on machines, metrics, logs."""
