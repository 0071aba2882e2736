"""Registry hives: reading, log recovery."""
