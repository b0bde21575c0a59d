"""Records every topic into ClickHouse, exactly once in every view."""
