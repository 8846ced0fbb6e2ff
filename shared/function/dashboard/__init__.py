"""The dashboard: pages for people, served by the Functions app (docs/dashboard.md)."""
