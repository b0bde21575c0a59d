"""HTTP JSON batches of calls and feedback into Kafka."""
