"""The plain-Python kernel: refusals, models, collections, transactions, time and money; no Flask, no features."""
