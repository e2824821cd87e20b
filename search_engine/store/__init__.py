"""The store: one SQLite database that server, command line and searches share."""
