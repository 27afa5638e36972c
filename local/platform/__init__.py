"""The local cloud's services: emulator, database, supervisor, and how they are started and stopped."""
