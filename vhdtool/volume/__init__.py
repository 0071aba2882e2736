"""Partitions and what is on them."""
