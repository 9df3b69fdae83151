"""Stock: movements in a ledger, and holds that reserve a quantity.

Stock never goes below zero, and no movement takes away what is held. An import, which states the counted stock, can set
it below what is held (decision 14).
"""
