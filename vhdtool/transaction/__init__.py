"""Changes to an image: planned, tried on an overlay, read again by others, then committed or dropped."""
