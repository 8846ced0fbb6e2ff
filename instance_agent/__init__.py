"""The daemon on every role instance: it installs what the tables desire and proves that it is served."""
