"""The audit trail as administrators read it; `core.audit` appends to it, and nothing changes its rows."""
