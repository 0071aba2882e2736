"""The command line: one file per command group. The only place that prints, reads the environment and exits."""
