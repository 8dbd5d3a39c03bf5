"""Where delivered bars go; each sink stands behind an extra of its own."""
