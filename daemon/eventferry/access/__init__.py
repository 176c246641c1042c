"""Who may ask for what: keys, signatures, limits."""
