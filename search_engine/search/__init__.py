"""The search: rounds of ideas, branches and verdicts, from a task to an offer."""
