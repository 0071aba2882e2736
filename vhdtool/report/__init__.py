"""The result documents and how they are shown: JSON with its schema, text for people."""
