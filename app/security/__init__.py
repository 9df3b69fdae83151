"""Policy and secrets: who may do what, who is asking, passwords and tokens; no Flask."""
