"""The bytes of a virtual disk: containers, logs, chains."""
