"""Private clouds and workers that tests, scenarios and measurements start, and stop when they are done."""
