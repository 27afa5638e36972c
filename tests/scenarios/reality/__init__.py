"""The planner's simulation held against the local cloud: the same lessons through both, and their waits."""
