"""The state of a partition: runs and deliveries, the records they are made of, and how records are replayed."""
