"""What is told while a job runs: figures by step, and event streams."""
