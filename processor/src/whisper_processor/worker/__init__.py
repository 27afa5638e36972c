"""The worker: its loop, the course of one job, liveness, heartbeat and drain."""
