"""Worker processes: what may hang, fault or be killed runs in them."""
