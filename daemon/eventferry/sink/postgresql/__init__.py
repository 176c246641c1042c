"""What sink types share that speak PostgreSQL's protocol: the connection with its deadline, the meaning of errors."""
