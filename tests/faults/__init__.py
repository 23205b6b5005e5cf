"""Fault runs: clients send records while processes, storage and servers fail. Then every accepted record is checked."""
