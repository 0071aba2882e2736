"""The host's side: how the machine is configured that an image belongs to."""
