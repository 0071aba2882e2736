"""The result document and its renderings."""
