"""The whole cloud on one machine: emulator, database, and the machine behind each EC2 instance."""
