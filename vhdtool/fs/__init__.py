"""File systems of the guest, read-only."""
