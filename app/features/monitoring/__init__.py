"""What the database knows and no process counts, as metrics: queues, workers, endpoints, pictures."""
