"""Background jobs as administrators see them: what runs, what failed, and why; retried and cancelled from here.

What a job is to do is shown nowhere, because it may name people and secrets.
"""
