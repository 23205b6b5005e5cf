"""The whole service over a Redis that restarts, has TLS, is behind Sentinel or is a cluster, and with RabbitMQ."""
