"""What ``scripts/bench.py`` is made of: the images that are measured, the measuring, and the table."""
