"""The worker: its loop, the course of one job, and what keeps them alive and lets them leave."""
