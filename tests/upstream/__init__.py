"""What recording relies on in diffusers, looked up in the installed version and compared with a stored table."""
