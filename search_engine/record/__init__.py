"""Recording a user's own run: which module classes it calls, on what, and for how long.

``launch`` starts the user's command with the recorder in it and reads what it wrote;
``inside`` is the recorder, which runs in the user's process.
"""
