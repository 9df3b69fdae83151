"""The change feed as clients read it: every change of the catalogue once, in commit order, after a cursor."""
