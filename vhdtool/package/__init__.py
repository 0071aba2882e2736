"""Files that come in packages: versions of executables."""
