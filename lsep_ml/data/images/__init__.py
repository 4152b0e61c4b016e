"""Image files: decoded, and opened once before they are used."""
