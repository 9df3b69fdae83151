"""The audit trail as administrators read it; `core.audit` writes it, and nothing changes it."""
