"""The local runtime: Kafka, ClickHouse and the services without containers."""
