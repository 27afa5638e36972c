"""What the system will cost and how long lessons will wait, simulated with the autoscaler's own `decide()`."""
