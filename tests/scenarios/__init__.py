"""Long scenarios against the real parts: chaos, deploys, and the planner against reality."""
