"""OTLP/HTTP: spans and log records of any generation of GenAI names to calls, evaluations and feedback.

``protobuf`` and ``json_body`` read a request into ``records``; ``calls`` and ``opinions`` map a record to an item as it
could be posted at ``/v1/calls`` and its neighbours (``names`` and ``usage`` hold the tables); ``intake`` has the core
judge these items; ``answers`` says what became of them. All of these are pure; ``routes`` is the HTTP side.
"""
