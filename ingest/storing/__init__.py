"""Store what was accepted: the drain, quarantine, the ledger and the upkeep of tables."""
