"""Development scripts: fixtures and benchmark. Not part of the installed package."""
