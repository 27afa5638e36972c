"""Speech engines behind one interface. Each is imported only when it is used."""
