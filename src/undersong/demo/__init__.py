"""The generated catalogue that a new user tries everything on."""
