"""Checks: what a good image must be, told over the result document of ``vhdtool inspect``, live or saved."""
