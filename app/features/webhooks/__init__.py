"""Webhooks: changes of the catalogue, sent to the endpoints of others as the Standard Webhooks specification says.

The change feed is the truth. `dispatch` turns its events into deliveries, one queue for each endpoint; the job of an
endpoint sends them (`tasks`). A delivery is sent at least once, those of one resource in their order, and of several
that wait for one resource the last.
"""
