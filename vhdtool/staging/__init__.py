"""Packages put into a guest to be installed at its next start: preflight, plan, what runs there, and the outcome."""
