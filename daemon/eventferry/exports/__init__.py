"""The pull side over the log: what is selected, how it is written, export jobs from request to expiry."""
