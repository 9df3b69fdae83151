"""The change feed as clients read it: every change of the catalogue once, in an order to go on from."""
