"""Installed operating systems and what is known of them."""
